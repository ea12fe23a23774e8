package main

import (
	"context"
	"fmt"
	"os"
	"sort"
	"strconv"
	"sync"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	executorv1 "rayscaler.io/api/executor/v1"
)

const mostOnAPage = 1000

// change is one observation with the cluster that it belongs to; its place in the journal is its bookmark.
type change struct {
	cluster     string
	observation *executorv1.Observation
}

type instance struct {
	spec       []byte
	externalID string
	nodeType   string
}

// executor keeps instances in memory: they run as soon as they are launched, and are gone as soon as they are ended.
type executor struct {
	executorv1.UnimplementedExecutorServiceServer
	log hclog.Logger

	mutex     sync.Mutex
	clusters  map[string]map[string]*instance
	journal   []change
	appended  chan struct{}
	externals int
}

func newExecutor(log hclog.Logger) *executor {
	return &executor{log: log, clusters: map[string]map[string]*instance{}, appended: make(chan struct{})}
}

func (e *executor) GetInfo(context.Context, *executorv1.GetInfoRequest) (*executorv1.GetInfoResponse, error) {
	fmt.Println("asked who this is") // go-plugin takes what is printed and streams it to the host
	fmt.Fprintln(os.Stderr, "and on the other channel too")
	e.log.Info("told who this is", "pid", os.Getpid())
	return &executorv1.GetInfoResponse{
		Name: "fake.rayscaler.io", Version: "0.1.0", ProtocolVersion: 1, Manifest: map[string]string{"pid": strconv.Itoa(os.Getpid())},
	}, nil
}

func (e *executor) GetCapabilities(context.Context, *executorv1.GetCapabilitiesRequest) (*executorv1.GetCapabilitiesResponse, error) {
	return &executorv1.GetCapabilitiesResponse{}, nil
}

func (e *executor) Probe(context.Context, *executorv1.ProbeRequest) (*executorv1.ProbeResponse, error) {
	return &executorv1.ProbeResponse{}, nil
}

func (e *executor) Launch(_ context.Context, request *executorv1.LaunchRequest) (*executorv1.LaunchResponse, error) {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	response := &executorv1.LaunchResponse{}
	for _, spec := range request.Specs {
		response.Results = append(response.Results, e.launch(request.Cluster, spec))
	}
	return response, nil
}

func (e *executor) launch(cluster string, spec *executorv1.LaunchSpec) *executorv1.LaunchResult {
	result := &executorv1.LaunchResult{InstanceId: spec.InstanceId}
	same := proto.Clone(spec).(*executorv1.LaunchSpec)
	same.RayStart = nil
	text, err := proto.MarshalOptions{Deterministic: true}.Marshal(same)
	if err != nil {
		result.Outcome = &executorv1.LaunchResult_Error{Error: &executorv1.Error{Reason: "UNAVAILABLE", Message: err.Error()}}
		return result
	}
	instances := e.clusters[cluster]
	if instances == nil {
		instances = map[string]*instance{}
		e.clusters[cluster] = instances
	}
	known := instances[spec.InstanceId]
	if known != nil && string(known.spec) != string(text) {
		message := fmt.Sprintf("%s was launched with another spec", spec.InstanceId)
		result.Outcome = &executorv1.LaunchResult_Error{Error: &executorv1.Error{Reason: "CONFLICT", Message: message}}
		return result
	}
	if known == nil {
		e.externals++
		known = &instance{spec: text, externalID: fmt.Sprintf("fake-%d", e.externals), nodeType: spec.NodeType.GetName()}
		instances[spec.InstanceId] = known
		e.tell(cluster, spec.InstanceId, known, executorv1.Phase_PHASE_REGISTERING)
	}
	result.Outcome = &executorv1.LaunchResult_ExternalId{ExternalId: known.externalID}
	return result
}

func (e *executor) Terminate(_ context.Context, request *executorv1.TerminateRequest) (*executorv1.TerminateResponse, error) {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	response := &executorv1.TerminateResponse{}
	for _, id := range request.InstanceIds {
		if known := e.clusters[request.Cluster][id]; known != nil {
			delete(e.clusters[request.Cluster], id)
			e.tell(request.Cluster, id, known, executorv1.Phase_PHASE_GONE)
		}
		response.Results = append(response.Results, &executorv1.TerminateResult{InstanceId: id})
	}
	return response, nil
}

func (e *executor) List(_ context.Context, request *executorv1.ListRequest) (*executorv1.ListResponse, error) {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	ids := make([]string, 0, len(e.clusters[request.Cluster]))
	for id := range e.clusters[request.Cluster] {
		if id > request.PageToken {
			ids = append(ids, id)
		}
	}
	sort.Strings(ids)
	size := mostOnAPage
	if request.PageSize > 0 {
		size = min(size, int(request.PageSize))
	}
	response := &executorv1.ListResponse{Bookmark: strconv.Itoa(len(e.journal))}
	if len(ids) > size {
		ids = ids[:size]
		response.NextPageToken = ids[size-1]
	}
	for _, id := range ids {
		response.Observations = append(response.Observations, observe(id, e.clusters[request.Cluster][id], executorv1.Phase_PHASE_REGISTERING))
	}
	return response, nil
}

func (e *executor) Watch(request *executorv1.WatchRequest, stream executorv1.ExecutorService_WatchServer) error {
	e.mutex.Lock()
	next := len(e.journal)
	e.mutex.Unlock()
	if request.Bookmark != "" {
		place, err := strconv.Atoi(request.Bookmark)
		if err != nil || place < 0 || place > next {
			return status.Errorf(codes.InvalidArgument, "bookmark: %q: is none of mine", request.Bookmark)
		}
		next = place
	}
	for {
		e.mutex.Lock()
		changes, appended := e.journal[next:], e.appended
		e.mutex.Unlock()
		for _, each := range changes {
			next++
			if each.cluster != request.Cluster {
				continue
			}
			if err := stream.Send(&executorv1.WatchResponse{Observation: each.observation, Bookmark: strconv.Itoa(next)}); err != nil {
				return err
			}
		}
		select {
		case <-appended:
		case <-stream.Context().Done():
			return nil
		}
	}
}

// tell writes a change down and wakes whoever watches.
func (e *executor) tell(cluster, id string, about *instance, phase executorv1.Phase) {
	e.journal = append(e.journal, change{cluster, observe(id, about, phase)})
	close(e.appended)
	e.appended = make(chan struct{})
}

func observe(id string, about *instance, phase executorv1.Phase) *executorv1.Observation {
	return &executorv1.Observation{InstanceId: id, NodeType: about.nodeType, ExternalId: about.externalID, Phase: phase}
}
