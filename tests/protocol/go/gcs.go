package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	ray "rayscaler.io/tests/protocol/monitor/gen/gcs"
	pb "rayscaler.io/tests/protocol/monitor/gen/head"
)

const autoscaler = "autoscaler.AutoscalerStateService/"

// gcs is the door to Ray: which cluster is there, and what it was told in this life (H39).
type gcs struct {
	channel      *grpc.ClientConn
	mu           sync.Mutex // guards all below
	id           string     // empty while another cluster may be there (H35)
	life         int
	version      int64
	stateVersion int64
	configHash   string
	notice       string
	isNoticed    bool
	headIP       string
	known        map[string]bool
	readID       string
}

// call calls the GCS of the cluster id once.
func (g *gcs) call(id, method string, request, reply proto.Message) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if id != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "ray_cluster_id", id)
	}
	if secret := token(); secret != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+secret)
	}
	err := g.channel.Invoke(ctx, "/ray.rpc."+method, request, reply)
	if status.Code(err) == codes.Unavailable || isOther(err) {
		g.mu.Lock()
		g.id = ""
		g.mu.Unlock()
	}
	return err
}

func isOther(err error) bool {
	return status.Code(err) == codes.Unauthenticated && strings.Contains(err.Error(), "WrongClusterID")
}

func token() string {
	if strings.EqualFold(os.Getenv("RAY_AUTH_MODE"), "disabled") {
		return ""
	}
	if inline := strings.TrimSpace(os.Getenv("RAY_AUTH_TOKEN")); inline != "" {
		return inline
	}
	path := os.Getenv("RAY_AUTH_TOKEN_PATH")
	if path == "" {
		path = filepath.Join(os.Getenv("HOME"), ".ray", "auth_token")
	}
	text, _ := os.ReadFile(path)
	return strings.TrimSpace(string(text))
}

// open returns the id of the cluster that is there, asking for it where it is not known.
func (g *gcs) open() (string, error) {
	g.mu.Lock()
	id := g.id
	g.mu.Unlock()
	if id != "" {
		return id, nil
	}
	reply := new(ray.GetClusterIdReply)
	if err := g.call("", "NodeInfoGcsService/GetClusterId", &ray.GetClusterIdRequest{}, reply); err != nil {
		return "", err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.id = hex.EncodeToString(reply.ClusterId)
	g.begin()
	return g.id, nil
}

// begin starts a new life: nothing was told to it.
func (g *gcs) begin() {
	g.life, g.version, g.stateVersion, g.configHash, g.isNoticed = g.life+1, 0, 0, "", false
}

// saw notes what a reading showed.
func (g *gcs) saw(id, headIP string, version int64, snapshot *pb.Snapshot) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if version < g.version {
		g.begin()
	}
	g.version, g.readID, g.headIP, g.known = version, id, headIP, map[string]bool{}
	for _, node := range snapshot.Nodes {
		g.known[node.RayNodeId] = true
	}
}

func (g *gcs) told() (int64, string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.stateVersion, g.configHash
}

func (g *gcs) last() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.readID
}

// tell tells the GCS what the answer has for it (H48); what fails comes again with a later answer.
func (g *gcs) tell(answer *pb.ReportDemandResponse) {
	g.mu.Lock()
	id, life, version, hash, notice, isNoticed := g.id, g.life, g.stateVersion, g.configHash, g.notice, g.isNoticed
	g.mu.Unlock()
	if id == "" {
		return
	}
	isSame := func() bool { g.mu.Lock(); defer g.mu.Unlock(); return g.life == life }
	if state := answer.AutoscalingState; state != nil && state.Version > version {
		request := &ray.ReportAutoscalingStateRequest{AutoscalingState: stateForRay(state)}
		if g.call(id, autoscaler+"ReportAutoscalingState", request, &ray.ReportAutoscalingStateReply{}) == nil && isSame() {
			g.mu.Lock()
			g.stateVersion = state.Version
			g.mu.Unlock()
		}
	}
	if !isNoticed || notice != answer.DriverNotice {
		if g.setNotice(id, answer.DriverNotice) == nil && isSame() {
			g.mu.Lock()
			g.notice, g.isNoticed = answer.DriverNotice, true
			g.mu.Unlock()
		}
	}
	if config := answer.ClusterConfig; config != nil && config.Hash != hash {
		request := &ray.ReportClusterConfigRequest{ClusterConfig: configForRay(config)}
		if g.call(id, autoscaler+"ReportClusterConfig", request, &ray.ReportClusterConfigReply{}) == nil && isSame() {
			g.mu.Lock()
			g.configHash = config.Hash
			g.mu.Unlock()
		}
	}
}

// carryOut carries out one command at the cluster id (section 13).
func (g *gcs) carryOut(command *pb.Command, id string) (pb.Outcome, string) {
	var isTaken bool
	var detail string
	err := fmt.Errorf("this monitor does not know that kind of command")
	switch kind := command.Kind.(type) {
	case *pb.Command_DrainNode:
		isTaken, detail, err = g.drain(kind.DrainNode, id)
	case *pb.Command_TellDrivers:
		isTaken, err = true, g.publish(kind.TellDrivers.Lines, id)
	case *pb.Command_ReplayConstraint:
		isTaken, detail, err = g.replay(kind.ReplayConstraint.Constraint, id)
	}
	switch {
	case err != nil:
		return pb.Outcome_OUTCOME_FAILED, err.Error()
	case !isTaken:
		return pb.Outcome_OUTCOME_REJECTED, detail
	}
	return pb.Outcome_OUTCOME_DONE, detail
}

func (g *gcs) drain(drain *pb.DrainNode, id string) (bool, string, error) {
	g.mu.Lock()
	isKnown := g.known[drain.RayNodeId]
	g.mu.Unlock()
	nodeID, err := hex.DecodeString(drain.RayNodeId)
	if err != nil || !isKnown {
		return false, "", fmt.Errorf("node %q is not in Ray's present session", drain.RayNodeId)
	}
	request := &ray.DrainNodeRequest{NodeId: nodeID, ReasonMessage: drain.Detail}
	switch drain.Reason {
	case pb.DrainReason_DRAIN_REASON_IDLE:
		request.Reason = ray.DrainNodeReason_DRAIN_NODE_REASON_IDLE_TERMINATION
	case pb.DrainReason_DRAIN_REASON_PREEMPTION:
		request.Reason = ray.DrainNodeReason_DRAIN_NODE_REASON_PREEMPTION
		if drain.Deadline != nil {
			request.DeadlineTimestampMs = drain.Deadline.AsTime().UnixMilli()
		}
	default: // H15
		return false, "", fmt.Errorf("drain reason %d is neither idle nor preemption", drain.Reason)
	}
	reply := new(ray.DrainNodeReply)
	err = g.call(id, autoscaler+"DrainNode", request, reply)
	return reply.IsAccepted, reply.RejectionReasonMessage, err
}

func (g *gcs) replay(constraint *pb.Constraint, id string) (bool, string, error) {
	state := new(ray.GetClusterResourceStateReply)
	if err := g.call(id, autoscaler+"GetClusterResourceState", &ray.GetClusterResourceStateRequest{}, state); err != nil {
		return false, "", err
	}
	if len(state.ClusterResourceState.GetClusterResourceConstraints()) > 0 { // H24
		return false, "the GCS has a constraint already", nil
	}
	wanted := new(ray.ClusterResourceConstraint)
	for _, each := range constraint.GetDemands() {
		wanted.ResourceRequests = append(wanted.ResourceRequests, &ray.ResourceRequestByCount{Request: requestForRay(each.Bundle), Count: each.Count})
	}
	request := &ray.RequestClusterResourceConstraintRequest{ClusterResourceConstraint: wanted}
	return true, "", g.call(id, autoscaler+"RequestClusterResourceConstraint", request, &ray.RequestClusterResourceConstraintReply{})
}

// publish passes events to the drivers that are connected (H56).
func (g *gcs) publish(lines []string, id string) error {
	g.mu.Lock()
	batch := &ray.LogBatch{Ip: g.headIP, Pid: "autoscaler", Lines: lines}
	g.mu.Unlock()
	request := &ray.GcsPublishRequest{PubMessages: []*ray.PubMessage{{ChannelType: 7, LogBatchMessage: batch}}}
	return g.call(id, "ObservabilityPubSubService/GcsPublish", request, &ray.GcsPublishReply{})
}

// setNotice keeps a text for drivers that connect later, never over somebody else's (H57).
func (g *gcs) setNotice(id, text string) error {
	const kv, ours = "InternalKVGcsService/InternalKV", "rayscaler: "
	key, found := []byte("__autoscaling_error"), new(ray.InternalKVGetReply)
	err := g.call(id, kv+"Get", &ray.InternalKVGetRequest{Key: key}, found)
	switch {
	case err != nil || len(found.Value) > 0 && !strings.HasPrefix(string(found.Value), ours):
		return err
	case text != "":
		return g.call(id, kv+"Put", &ray.InternalKVPutRequest{Key: key, Value: []byte(ours + text), Overwrite: true}, &ray.InternalKVPutReply{})
	case len(found.Value) > 0:
		return g.call(id, kv+"Del", &ray.InternalKVDelRequest{Key: key}, &ray.InternalKVDelReply{})
	}
	return nil
}
