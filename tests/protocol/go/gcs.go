package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	ray "rayscaler.io/tests/protocol/monitor/gen/gcs"
	pb "rayscaler.io/tests/protocol/monitor/gen/head"
)

const nodes, autoscaler, kv = "NodeInfoGcsService/", "autoscaler.AutoscalerStateService/", "InternalKVGcsService/InternalKV"

// line leads to the GCS of one cluster with these nodes (H34) until a call fails (H37).
type line struct {
	*monitor
	cluster string
	nodes   []*ray.NodeState
	err     error
}

// ask calls the GCS once, unless a call failed before; T is the type of the answer.
func ask[T any, M interface {
	*T
	proto.Message
}](l *line, method string, request proto.Message) M {
	reply := M(new(T))
	if l.err != nil {
		return reply
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if l.cluster != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "ray_cluster_id", l.cluster)
	}
	if secret := token(); secret != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+secret)
	}
	l.err = l.gcs.Invoke(ctx, "/ray.rpc."+method, request, reply)
	if status.Code(l.err) == codes.Unavailable || l.err != nil && strings.Contains(l.err.Error(), "WrongClusterID") {
		l.isLost.Store(true)
	}
	return reply
}

func token() string { // H36
	path, inline := os.Getenv("RAY_AUTH_TOKEN_PATH"), strings.TrimSpace(os.Getenv("RAY_AUTH_TOKEN"))
	if strings.EqualFold(os.Getenv("RAY_AUTH_MODE"), "disabled") || inline != "" {
		return inline
	}
	if path == "" {
		path = filepath.Join(os.Getenv("HOME"), ".ray", "auth_token")
	}
	text, _ := os.ReadFile(path)
	return strings.TrimSpace(string(text))
}

// begin begins a new life of the GCS (H39).
func (m *monitor) begin() { m.life, m.version, m.tried, m.told = m.life+1, 0, 0, map[string]any{} }

// read reads everything, whole or not at all (section 12).
func (m *monitor) read() (*pb.ReportDemandRequest, error) {
	at, l := time.Now(), &line{monitor: m}
	if m.isLost.Swap(false) { // before the call: a break during it counts
		id := ask[ray.GetClusterIdReply](l, nodes+"GetClusterId", &ray.GetClusterIdRequest{}).ClusterId
		if l.err != nil {
			m.isLost.Store(true)
			return nil, l.err
		}
		m.cluster = hex.EncodeToString(id)
		m.begin()
	}
	l.cluster = m.cluster
	state := l.state()
	alive := ask[ray.CheckAliveReply](l, nodes+"CheckAlive", &ray.CheckAliveRequest{})
	ended := ask[ray.GetAllNodeInfoReply](l, nodes+"GetAllNodeInfo", &ray.GetAllNodeInfoRequest{})
	draining := ask[ray.GetDrainingNodesReply](l, "NodeResourceInfoGcsService/GetDrainingNodes", &ray.GetDrainingNodesRequest{})
	slim := &ray.GetAllJobInfoRequest{SkipSubmissionJobInfoField: true, SkipIsRunningTasksField: true}
	jobs := ask[ray.GetAllJobInfoReply](l, "JobInfoGcsService/GetAllJobInfo", slim)
	groups := ask[ray.GetAllPlacementGroupReply](l, "PlacementGroupInfoGcsService/GetAllPlacementGroup", &ray.GetAllPlacementGroupRequest{})
	place := &ray.InternalKVGetRequest{Namespace: []byte("__autoscaler"), Key: []byte("__autoscaler_v2_enabled")}
	mode := ask[ray.InternalKVGetReply](l, kv+"Get", place)
	detached := 0
	for living := range int32(4) {
		some := &ray.GetAllActorInfoRequest{Filters: &ray.ActorFilters{State: &living}}
		actors := ask[ray.GetAllActorInfoReply](l, "ActorInfoGcsService/GetAllActorInfo", some).ActorTableData
		detached += len(slices.DeleteFunc(actors, func(row *ray.ActorTableData) bool { return !row.IsDetached }))
	}
	if l.err != nil {
		return nil, l.err
	}
	if state.GetClusterResourceStateVersion() < m.version { // H39
		m.begin()
	}
	l.nodes, m.version = state.GetNodeStates(), state.GetClusterResourceStateVersion()
	m.last = *l
	return &pb.ReportDemandRequest{
		Session:    &pb.Session{ClusterId: m.cluster, SessionName: state.GetClusterSessionName()},
		RayVersion: alive.RayVersion,
		V1Mode:     len(mode.Value) > 0 && string(mode.Value) != "1",
		Age:        durationpb.New(time.Since(at)),
		Snapshot: &pb.Snapshot{
			State:    state,
			Ended:    slices.DeleteFunc(ended.NodeInfoList, func(row *ray.GcsNodeInfo) bool { return row.State == 0 }),
			Draining: draining.DrainingNodes,
			Jobs:     slices.DeleteFunc(jobs.JobInfoList, (*ray.JobTableData).GetIsDead),
			Groups: slices.DeleteFunc(groups.PlacementGroupTableData, func(row *ray.PlacementGroupTableData) bool {
				return !row.CreatorActorDead
			}),
			LiveDetachedActors: int32(detached),
		},
	}, nil
}

func (l *line) state() *ray.ClusterResourceState {
	request := &ray.GetClusterResourceStateRequest{}
	return ask[ray.GetClusterResourceStateReply](l, autoscaler+"GetClusterResourceState", request).ClusterResourceState
}

// carryOut carries out one command (section 13).
func (l *line) carryOut(command *pb.Command) *pb.CommandResult {
	result := &pb.CommandResult{CommandId: command.CommandId, Outcome: pb.Outcome_OUTCOME_DONE}
	switch kind := command.Kind.(type) {
	case *pb.Command_DrainNode:
		isIt := func(row *ray.NodeState) bool { return bytes.Equal(row.NodeId, kind.DrainNode.NodeId) }
		if reason := kind.DrainNode.Reason; reason != 1 && reason != 2 || !slices.ContainsFunc(l.nodes, isIt) { // H15, H45
			l.err = errors.New("the drain has no known reason, or its node is not in Ray's present session")
		}
		if reply := ask[ray.DrainNodeReply](l, autoscaler+"DrainNode", kind.DrainNode); !reply.IsAccepted {
			result.Outcome, result.Detail = pb.Outcome_OUTCOME_REJECTED, reply.RejectionReasonMessage
		}
	case *pb.Command_ReplayConstraint:
		if kind.ReplayConstraint.Replaces != nil || len(l.state().GetClusterResourceConstraints()) > 0 { // H24, H59
			result.Outcome, result.Detail = pb.Outcome_OUTCOME_REJECTED, "the GCS has a constraint, or may have another"
			break
		}
		request := &ray.RequestClusterResourceConstraintRequest{ClusterResourceConstraint: kind.ReplayConstraint.Constraint}
		ask[ray.RequestClusterResourceConstraintReply](l, autoscaler+"RequestClusterResourceConstraint", request)
	case *pb.Command_TellDrivers:
		messages := []*ray.PubMessage{{ChannelType: 7, LogBatchMessage: kind.TellDrivers}}
		ask[ray.GcsPublishReply](l, "ObservabilityPubSubService/GcsPublish", &ray.GcsPublishRequest{PubMessages: messages})
	default:
		l.err = errors.New("this monitor does not know that kind of command")
	}
	if l.err != nil {
		result.Outcome, result.Detail = pb.Outcome_OUTCOME_FAILED, l.err.Error()
	}
	return result
}

// tellAll has the GCS told what it has not taken yet (section 14).
func (m *monitor) tellAll(answer *pb.ReportDemandResponse) {
	if state := answer.AutoscalingState; state != nil && state.AutoscalerStateVersion >= m.tried { // H48
		m.tried = state.AutoscalerStateVersion
		m.tell("state", m.tried, func(l *line) {
			ask[ray.ReportAutoscalingStateReply](l, autoscaler+"ReportAutoscalingState", &ray.ReportAutoscalingStateRequest{AutoscalingState: state})
		})
	}
	if config := answer.ClusterConfig; config != nil {
		m.tell("config", config.Hash, func(l *line) {
			ask[ray.ReportClusterConfigReply](l, autoscaler+"ReportClusterConfig", &ray.ReportClusterConfigRequest{ClusterConfig: config.Config})
		})
	}
	m.tell("notice", answer.DriverNotice, func(l *line) { // H57
		key, text, ours := []byte("__autoscaling_error"), answer.DriverNotice, "rayscaler: "
		there := string(ask[ray.InternalKVGetReply](l, kv+"Get", &ray.InternalKVGetRequest{Key: key}).Value)
		isOurs := strings.HasPrefix(there, ours)
		if text != "" && (isOurs || there == "") {
			ask[ray.InternalKVPutReply](l, kv+"Put", &ray.InternalKVPutRequest{Key: key, Value: []byte(ours + text), Overwrite: true})
		} else if text == "" && isOurs {
			ask[ray.InternalKVDelReply](l, kv+"Del", &ray.InternalKVDelRequest{Key: key})
		}
	})
}
