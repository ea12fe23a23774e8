package executor

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	executorv1 "rayscaler.io/api/executor/v1"

	"rayscaler.io/examples/plugin-go-ssh/internal/fleet"
	"rayscaler.io/examples/plugin-go-ssh/internal/machine"
)

// List tells the workers of a cluster, on machines out of reach as they were seen last; it fails rather than leave a machine out.
func (e *Executor) List(_ context.Context, request *executorv1.ListRequest) (*executorv1.ListResponse, error) {
	if request.Cluster == "" {
		return nil, invalid([]*executorv1.Problem{{Path: "cluster", Rule: "is missing"}})
	}
	bookmark, after := e.feed.bookmark(e.feed.now()), ""
	if request.PageToken != "" {
		bookmark, after, _ = strings.Cut(request.PageToken, "/")
		if _, err := e.feed.place(bookmark); err != nil {
			return nil, expired(err)
		}
	}
	found, err := e.observe(request.Cluster)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(found, func(a, b *executorv1.Observation) int { return strings.Compare(a.InstanceId, b.InstanceId) })
	begin, isThere := slices.BinarySearchFunc(found, after, func(o *executorv1.Observation, id string) int { return strings.Compare(o.InstanceId, id) })
	if isThere {
		begin++
	}
	size := mostOnAPage
	if request.PageSize > 0 {
		size = min(size, int(request.PageSize))
	}
	response := &executorv1.ListResponse{Observations: found[begin:], Bookmark: bookmark}
	if len(response.Observations) > size {
		response.Observations = response.Observations[:size]
		response.NextPageToken = bookmark + "/" + response.Observations[size-1].InstanceId
	}
	return response, nil
}

func (e *Executor) observe(cluster string) ([]*executorv1.Observation, error) {
	var found []*executorv1.Observation
	var unseen []string
	for _, link := range e.links {
		now := link.Status()
		if !now.IsSeen {
			unseen = append(unseen, outOfReach(&now))
		}
		lastSeen := ""
		if !now.IsConnected {
			lastSeen = "as last seen: " + outOfReach(&now) + "; "
		}
		for key, view := range now.Views {
			if key.Cluster == cluster {
				found = append(found, observation(now.Machine, view, lastSeen))
			}
		}
	}
	if len(unseen) > 0 {
		return nil, failed(codes.Unavailable, "UNAVAILABLE", "what runs there is not known: "+strings.Join(unseen, "; ")+
			". If a machine is gone for good, take it out of the fleet's file and end this plugin; it is started again")
	}
	return found, nil
}

// Watch tells changes after a bookmark until the caller hangs up.
func (e *Executor) Watch(request *executorv1.WatchRequest, stream executorv1.ExecutorService_WatchServer) error {
	if request.Cluster == "" {
		return invalid([]*executorv1.Problem{{Path: "cluster", Rule: "is missing"}})
	}
	place := e.feed.now()
	if request.Bookmark != "" {
		var err error
		if place, err = e.feed.place(request.Bookmark); err != nil {
			return expired(err)
		}
	}
	if err := stream.Send(&executorv1.WatchResponse{Bookmark: e.feed.bookmark(place)}); err != nil {
		return err
	}
	beat := time.NewTicker(beatPeriod)
	defer beat.Stop()
	for {
		changes, next, grown, err := e.feed.after(place, request.Cluster)
		if err != nil {
			return expired(err)
		}
		for _, each := range changes {
			if err := stream.Send(&executorv1.WatchResponse{Observation: each.observation, Bookmark: e.feed.bookmark(each.number)}); err != nil {
				return err
			}
		}
		place = next
		select {
		case <-grown:
		case <-beat.C: // a watch that says nothing is taken for dead
			if err := stream.Send(&executorv1.WatchResponse{Bookmark: e.feed.bookmark(place)}); err != nil {
				return err
			}
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}

func observation(on *fleet.Machine, view *machine.View, lastSeen string) *executorv1.Observation {
	spec := &executorv1.LaunchSpec{}
	detail := lastSeen + view.Detail
	if err := readKept(view.Spec, spec); err != nil {
		detail = "its record is not readable; " + detail // what it says may be nobody's business
	}
	return &executorv1.Observation{
		InstanceId: view.InstanceID, NodeType: spec.GetNodeType().GetName(), ExternalId: externalID(on, view.InstanceID),
		Phase: executorv1.Phase(executorv1.Phase_value["PHASE_"+view.Phase]), Detail: fmt.Sprintf("machine %s: %s", on.Name, detail),
		Error: view.Error, MadeAs: spec.GetNodeType(), ObservedAt: timestamppb.New(time.Now()), ReplicaId: spec.ReplicaId, ReplicaHost: spec.ReplicaHost,
	}
}

func externalID(on *fleet.Machine, instanceID string) string { return path.Join(on.Name, instanceID) }

func outOfReach(now *machine.Status) string {
	return fmt.Sprintf("machine %s, out of reach for %s: %s", now.Machine.Name, time.Since(now.Since).Round(time.Second), now.Why)
}
