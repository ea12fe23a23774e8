package main

import (
	"encoding/hex"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	ray "rayscaler.io/tests/protocol/monitor/gen/gcs"
	pb "rayscaler.io/tests/protocol/monitor/gen/head"
)

// reading is what the GCS said at one moment; content and idleSince tell a change (H8).
type reading struct {
	session    *pb.Session
	snapshot   *pb.Snapshot
	rayVersion string
	isV1       bool
	at         time.Time
	content    string
	idleSince  map[string]time.Time
}

// read reads everything, whole or not at all (H37); a cluster that has just taken another's place is read at once (H35).
func (g *gcs) read() (*reading, error) {
	found, err := g.readOnce()
	if isOther(err) {
		found, err = g.readOnce()
	}
	return found, err
}

func (g *gcs) readOnce() (*reading, error) {
	found := &reading{at: time.Now()}
	id, err := g.open()
	if err != nil {
		return nil, err
	}
	call := func(method string, request, reply proto.Message) { // does nothing after a failure
		if err == nil {
			err = g.call(id, method, request, reply)
		}
	}
	reply, alive, infos := new(ray.GetClusterResourceStateReply), new(ray.CheckAliveReply), new(ray.GetAllNodeInfoReply)
	draining, jobs, mode := new(ray.GetDrainingNodesReply), new(ray.GetAllJobInfoReply), new(ray.InternalKVGetReply)
	call(autoscaler+"GetClusterResourceState", &ray.GetClusterResourceStateRequest{}, reply)
	state := reply.GetClusterResourceState()
	call("NodeInfoGcsService/CheckAlive", &ray.CheckAliveRequest{}, alive)
	headIP := ""
	for _, row := range state.GetNodeStates() {
		if row.TotalResources["node:__internal_head__"] > 0 {
			headIP = row.NodeIpAddress
		}
	}
	for _, row := range state.GetNodeStates() {
		if row.Status == ray.NodeStatus_NODE_STATUS_DEAD {
			call("NodeInfoGcsService/GetAllNodeInfo", &ray.GetAllNodeInfoRequest{}, infos)
			break
		}
	}
	call("NodeResourceInfoGcsService/GetDrainingNodes", &ray.GetDrainingNodesRequest{}, draining)
	call("JobInfoGcsService/GetAllJobInfo", &ray.GetAllJobInfoRequest{SkipSubmissionJobInfoField: true, SkipIsRunningTasksField: true}, jobs)
	call("InternalKVGcsService/InternalKVGet", &ray.InternalKVGetRequest{Namespace: []byte("__autoscaler"), Key: []byte("__autoscaler_v2_enabled")}, mode)
	snapshot := snapshotOf(state, infos.NodeInfoList, draining.DrainingNodes)
	alives := map[string]bool{}
	for _, row := range jobs.JobInfoList {
		alives[string(row.JobId)] = !row.IsDead
		if !row.IsDead && !strings.HasPrefix(row.GetConfig().GetRayNamespace(), "_ray_internal_") {
			snapshot.LiveJobs++
		}
	}
	for living := int32(0); snapshot.LiveJobs == 0 && living < 4; living++ {
		actors := new(ray.GetAllActorInfoReply)
		call("ActorInfoGcsService/GetAllActorInfo", &ray.GetAllActorInfoRequest{Filters: &ray.ActorFilters{State: &living}}, actors)
		for _, row := range actors.ActorTableData {
			if row.IsDetached {
				snapshot.LiveDetachedActors++
			}
		}
	}
	if len(snapshot.Gangs) > 0 {
		groups := new(ray.GetAllPlacementGroupReply)
		call("PlacementGroupInfoGcsService/GetAllPlacementGroup", &ray.GetAllPlacementGroupRequest{}, groups)
		markOrphans(snapshot.Gangs, groups.PlacementGroupTableData, alives)
	}
	if err != nil {
		return nil, err
	}
	g.saw(id, headIP, snapshot.GcsVersion, snapshot)
	found.session = &pb.Session{ClusterId: id, SessionName: state.ClusterSessionName}
	found.snapshot, found.rayVersion = snapshot, alive.RayVersion
	found.isV1 = len(mode.Value) > 0 && string(mode.Value) != "1"
	found.look()
	return found, nil
}

// markOrphans marks the gangs that nobody waits for (H44).
func markOrphans(gangs []*pb.Gang, rows []*ray.PlacementGroupTableData, alives map[string]bool) {
	left := map[string]bool{}
	for _, row := range rows {
		left[hex.EncodeToString(row.PlacementGroupId)] = row.CreatorActorDead && !row.IsDetached
	}
	for _, gang := range gangs {
		if id, err := hex.DecodeString(gang.GangId); err == nil && len(id) == 18 {
			gang.Orphaned = left[gang.GangId] && !alives[string(id[14:])]
		}
	}
}

// look notes what tells a change: everything but the GCS's counter and the running on of idle times.
func (r *reading) look() {
	still := proto.CloneOf(r.snapshot)
	still.GcsVersion, r.idleSince = 0, map[string]time.Time{}
	for _, node := range still.Nodes {
		if node.Status == pb.NodeStatus_NODE_STATUS_IDLE {
			r.idleSince[node.RayNodeId] = r.at.Add(-node.Idle.AsDuration())
		}
		node.Idle = nil
	}
	bytes, _ := proto.MarshalOptions{Deterministic: true}.Marshal(still)
	r.content = string(bytes)
}

// repeats tells whether nothing has changed since an earlier reading, an idle time that began anew included.
func (r *reading) repeats(earlier *reading) bool {
	for id, since := range r.idleSince {
		if since.After(earlier.idleSince[id].Add(time.Second)) {
			return false
		}
	}
	return r.content == earlier.content && proto.Equal(r.session, earlier.session)
}
