package main

import (
	"cmp"
	"encoding/hex"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	ray "rayscaler.io/tests/protocol/monitor/gen/gcs"
	pb "rayscaler.io/tests/protocol/monitor/gen/head"
)

const unit = 10_000

var (
	control = regexp.MustCompile("[\\x00-\\x1f\\x7f\\x{85}\\x{2028}\\x{2029}]")
	cutOut  = regexp.MustCompile(`_group_(\d+_)?[0-9a-f]{36}\b`)
	details = regexp.MustCompile(`^([0-9a-f]+):([A-Z_]+)\|([A-Z]+)$`)
)

// snapshotOf makes a snapshot, but for who waits, in an order of its own (section 12).
func snapshotOf(state *ray.ClusterResourceState, infos []*ray.GcsNodeInfo, drains []*ray.DrainingNode) *pb.Snapshot {
	ended, deadlines := map[string]*ray.GcsNodeInfo{}, map[string]int64{}
	for _, row := range infos {
		ended[string(row.NodeId)] = row
	}
	for _, row := range drains {
		deadlines[string(row.NodeId)] = row.DrainingDeadlineTimestampMs
	}
	made := &pb.Snapshot{GcsVersion: state.GetClusterResourceStateVersion(), Demands: demands(state.GetPendingResourceRequests())}
	for _, row := range state.GetNodeStates() {
		made.Nodes = append(made.Nodes, nodeOf(row, ended, deadlines))
	}
	for _, row := range state.GetPendingGangResourceRequests() {
		if gang := gangOf(row); gang != nil {
			made.Gangs = append(made.Gangs, gang)
		}
	}
	if constraints := state.GetClusterResourceConstraints(); len(constraints) > 0 { // H10
		var wanted []*ray.ResourceRequestByCount
		for _, each := range constraints {
			wanted = append(wanted, each.ResourceRequests...)
		}
		made.Constraint = &pb.Constraint{Demands: demands(wanted)}
	}
	slices.SortFunc(made.Nodes, func(a, b *pb.Node) int { return cmp.Compare(a.RayNodeId, b.RayNodeId) })
	slices.SortFunc(made.Gangs, func(a, b *pb.Gang) int { return cmp.Compare(a.GangId, b.GangId) })
	return made
}

func nodeOf(row *ray.NodeState, ended map[string]*ray.GcsNodeInfo, deadlines map[string]int64) *pb.Node {
	isDead := row.Status == ray.NodeStatus_NODE_STATUS_DEAD
	node := &pb.Node{
		RayNodeId: hex.EncodeToString(row.NodeId), InstanceId: row.InstanceId, NodeType: row.RayNodeTypeName,
		Status: pb.NodeStatus(row.Status), Total: amounts(row.TotalResources), Available: amounts(row.AvailableResources),
		Labels: row.Labels, DynamicLabels: row.DynamicLabels,
		Idle:   durationpb.New(time.Duration(row.IdleDurationMs) * time.Millisecond),
		IsHead: row.TotalResources["node:__internal_head__"] > 0,
	}
	if row.Status < ray.NodeStatus_NODE_STATUS_RUNNING || row.Status > ray.NodeStatus_NODE_STATUS_DRAINING {
		node.Status = pb.NodeStatus_NODE_STATUS_RUNNING
	}
	if !isDead && row.Status != ray.NodeStatus_NODE_STATUS_IDLE {
		node.Activity = slices.DeleteFunc(slices.Sorted(slices.Values(row.NodeActivity)), cutOut.MatchString)
	}
	if info := ended[string(row.NodeId)]; isDead && info != nil {
		node.IsHead = info.IsHeadNode
		node.Death = &pb.Death{Reason: pb.DeathReason(info.GetDeathInfo().GetReason()), Detail: info.GetDeathInfo().GetReasonMessage()}
		if node.Death.Reason < 0 || node.Death.Reason > pb.DeathReason_DEATH_REASON_DRAINED_IDLE {
			node.Death.Reason = pb.DeathReason_DEATH_REASON_UNSPECIFIED
		}
	}
	deadline, isListed := deadlines[string(row.NodeId)]
	if !isDead && (isListed || row.Status == ray.NodeStatus_NODE_STATUS_DRAINING) {
		node.Draining = &pb.Draining{}
		if deadline > 0 {
			node.Draining.Deadline = timestamppb.New(time.UnixMilli(deadline))
		}
	}
	return node
}

// amounts turns Ray's amounts into units (H40), without what it cut out for placed groups (H41).
func amounts(resources map[string]float64) map[string]int64 {
	made := map[string]int64{}
	for name, amount := range resources {
		if units := int64(math.Round(amount * unit)); units > 0 && !isCutOut(name) && isSayable(name) {
			made[name] = units
		}
	}
	return made
}

// isSayable tells whether a resource may stand in a report (H53).
func isSayable(name string) bool {
	return name != "" && utf8.RuneCountInString(name) <= 512 && !control.MatchString(name)
}

func isCutOut(name string) bool {
	at := cutOut.FindStringIndex(name)
	return at != nil && at[0] > 0 && at[1] == len(name)
}

// demands adds up equal bundles (H42) and leaves out those of placed groups (H41).
func demands(rows []*ray.ResourceRequestByCount) []*pb.Demand {
	byShape, made := map[string]*pb.Demand{}, []*pb.Demand{}
next:
	for _, row := range rows {
		for name := range row.GetRequest().GetResourcesBundle() {
			if isCutOut(name) || !isSayable(name) {
				continue next
			}
		}
		bundle := bundleOf(row.GetRequest())
		shape, _ := proto.MarshalOptions{Deterministic: true}.Marshal(bundle)
		if same := byShape[string(shape)]; same != nil {
			same.Count += max(row.Count, 0)
		} else if row.Count > 0 {
			byShape[string(shape)] = &pb.Demand{Bundle: bundle, Count: row.Count}
		}
	}
	for _, shape := range sortedKeys(byShape) {
		made = append(made, byShape[shape])
	}
	return made
}

func sortedKeys[V any](of map[string]V) []string {
	keys := make([]string, 0, len(of))
	for key := range of {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

func bundleOf(request *ray.ResourceRequest) *pb.Bundle {
	bundle := &pb.Bundle{Resources: amounts(request.GetResourcesBundle())}
	for _, each := range request.GetLabelSelectors() {
		selector := &pb.LabelSelector{}
		for _, given := range each.LabelConstraints {
			condition := &pb.LabelCondition{Key: given.LabelKey, Operator: pb.LabelOperator(given.Operator), Values: given.LabelValues}
			if given.Operator != 1 && given.Operator != 2 { // holds nowhere
				condition.Operator, condition.Values = pb.LabelOperator_LABEL_OPERATOR_IN, nil
			}
			selector.Conditions = append(selector.Conditions, condition)
		}
		bundle.LabelSelectors = append(bundle.LabelSelectors, selector)
	}
	if len(bundle.LabelSelectors) == 1 && len(bundle.LabelSelectors[0].Conditions) == 0 {
		bundle.LabelSelectors = nil
	}
	return bundle
}

// gangOf makes a gang, or nil of one without bundles (H43) or with one that cannot be told (H53).
func gangOf(row *ray.GangResourceRequest) *pb.Gang {
	requests := row.Requests
	if len(row.BundleSelectors) > 0 {
		requests = row.BundleSelectors[0].ResourceRequests
	}
	counted := []*ray.ResourceRequestByCount{}
	for _, each := range requests {
		for name := range each.ResourcesBundle {
			if !isSayable(name) {
				return nil
			}
		}
		counted = append(counted, &ray.ResourceRequestByCount{Request: each, Count: 1})
	}
	gang := &pb.Gang{GangId: cmp.Or(row.Details, "unnamed"), Strategy: pb.Strategy_STRATEGY_PACK, Bundles: demands(counted)}
	if len(gang.Bundles) == 0 {
		return nil
	}
	for _, each := range requests[0].PlacementConstraints {
		if each.Affinity != nil {
			gang.Strategy = pb.Strategy_STRATEGY_STRICT_PACK
		} else if each.AntiAffinity != nil && gang.Strategy == pb.Strategy_STRATEGY_PACK {
			gang.Strategy = pb.Strategy_STRATEGY_STRICT_SPREAD
		}
	}
	if read := details.FindStringSubmatch(row.Details); read != nil {
		gang.GangId, gang.Rescheduling = read[1], read[3] == "RESCHEDULING"
		if named := pb.Strategy_value["STRATEGY_"+read[2]]; named > 0 {
			gang.Strategy = pb.Strategy(named)
		}
	}
	return gang
}

// requestForRay turns a bundle back into Ray's.
func requestForRay(bundle *pb.Bundle) *ray.ResourceRequest {
	request := &ray.ResourceRequest{ResourcesBundle: map[string]float64{}}
	for name, amount := range bundle.GetResources() {
		request.ResourcesBundle[name] = float64(amount) / unit
	}
	for _, each := range bundle.GetLabelSelectors() {
		selector := &ray.LabelSelector{}
		for _, given := range each.Conditions {
			selector.LabelConstraints = append(selector.LabelConstraints, &ray.LabelSelectorConstraint{
				LabelKey: given.Key, Operator: int32(given.Operator), LabelValues: given.Values})
		}
		request.LabelSelectors = append(request.LabelSelectors, selector)
	}
	return request
}

// namesGroup tells whether a bundle is of a placed group, so that Ray must not be told that it is infeasible (H50).
func namesGroup(bundle *pb.Bundle) bool {
	for name := range bundle.GetResources() {
		if strings.Contains(name, "_group_") {
			return true
		}
	}
	return false
}

// stateForRay turns the service's state into Ray's (section 14).
func stateForRay(state *pb.AutoscalingState) *ray.AutoscalingState {
	made := &ray.AutoscalingState{AutoscalerStateVersion: state.Version, LastSeenClusterResourceStateVersion: state.GcsVersion}
	for _, each := range state.Requested {
		made.PendingInstanceRequests = append(made.PendingInstanceRequests, &ray.PendingInstanceRequest{
			InstanceTypeName: each.NodeType, RayNodeTypeName: each.NodeType, Count: 1, RequestTs: each.Since.GetSeconds()})
	}
	for _, each := range state.Pending {
		made.PendingInstances = append(made.PendingInstances, &ray.PendingInstance{
			InstanceTypeName: each.NodeType, RayNodeTypeName: each.NodeType, InstanceId: each.InstanceId, Details: cmp.Or(each.Detail, "pending")})
	}
	for _, each := range state.Failed {
		made.FailedInstanceRequests = append(made.FailedInstanceRequests, &ray.FailedInstanceRequest{
			InstanceTypeName: each.NodeType, RayNodeTypeName: each.NodeType, Count: 1, Reason: cmp.Or(each.Detail, "launch failed"),
			StartTs: each.RequestedAt.GetSeconds(), FailedTs: each.FailedAt.GetSeconds()})
	}
	for _, each := range state.Infeasible {
		if !namesGroup(each) && len(each.LabelSelectors) == 0 {
			made.InfeasibleResourceRequests = append(made.InfeasibleResourceRequests, requestForRay(each))
		}
	}
next:
	for _, gang := range state.InfeasibleGangs {
		requests := []*ray.ResourceRequest{}
		for _, each := range gang.Bundles {
			if namesGroup(each.Bundle) {
				continue next
			}
			for range each.Count {
				requests = append(requests, requestForRay(each.Bundle))
			}
		}
		word := map[bool]string{false: "PENDING", true: "RESCHEDULING"}[gang.Rescheduling]
		made.InfeasibleGangResourceRequests = append(made.InfeasibleGangResourceRequests, &ray.GangResourceRequest{
			Requests: requests, BundleSelectors: []*ray.BundleSelector{{ResourceRequests: requests}},
			Details: gang.GangId + ":" + strings.TrimPrefix(gang.Strategy.String(), "STRATEGY_") + "|" + word})
	}
	return made
}

// configForRay turns the service's config into Ray's, in whole units, rounded up (H49).
func configForRay(config *pb.ClusterConfig) *ray.ClusterConfig {
	made := &ray.ClusterConfig{MinResources: whole(config.MinResources), MaxResources: whole(config.MaxResources)}
	for _, each := range config.NodeGroups {
		made.NodeGroupConfigs = append(made.NodeGroupConfigs, &ray.NodeGroupConfig{
			Name: each.Name, Resources: whole(each.Resources), MinCount: uint32(max(each.MinCount, 0)), MaxCount: each.MaxCount})
	}
	return made
}

func whole(amounts map[string]int64) map[string]uint64 {
	made := map[string]uint64{}
	for name, amount := range amounts {
		if amount > 0 {
			made[name] = uint64((amount-1)/unit + 1)
		}
	}
	return made
}
