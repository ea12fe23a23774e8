package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	executorv1 "rayscaler.io/api/executor/v1"
)

const (
	mostInACall = 1000
	ending      = 20 * time.Millisecond
	beat        = 5 * time.Second
	look        = 20 * time.Millisecond
)

var name = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}$`)

// change is one observation with the cluster that it belongs to; its place in the journal is its bookmark.
type change struct {
	cluster     string
	observation *executorv1.Observation
}

type instance struct {
	spec  []byte
	shown *executorv1.Observation
}

// executor keeps instances in memory: they run as soon as they are launched, and are gone soon after they are ended. They do not outlive it, as
// those of a plugin that is one must (X8, X47).
type executor struct {
	executorv1.UnimplementedExecutorServiceServer
	log  hclog.Logger
	life string

	mutex     sync.Mutex
	clusters  map[string]map[string]*instance
	journal   []change
	appended  chan struct{}
	externals int
}

// newExecutor makes one; an instance whose name stands in the directory `killed`, if there is one, dies.
func newExecutor(log hclog.Logger, killed string) *executor {
	made := &executor{
		log: log, life: strconv.FormatInt(time.Now().UnixNano(), 36), clusters: map[string]map[string]*instance{}, appended: make(chan struct{}),
	}
	if killed != "" {
		go made.reap(killed)
	}
	return made
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
	ids := make([]string, 0, len(request.Specs))
	for _, each := range request.Specs {
		ids = append(ids, each.InstanceId)
	}
	if err := check(request.Cluster, ids); err != nil {
		return nil, err
	}
	e.mutex.Lock()
	defer e.mutex.Unlock()
	response := &executorv1.LaunchResponse{}
	for _, each := range request.Specs {
		response.Results = append(response.Results, e.launch(request.Cluster, each))
	}
	return response, nil
}

func (e *executor) launch(cluster string, spec *executorv1.LaunchSpec) *executorv1.LaunchResult {
	refused := func(reason, message string) *executorv1.LaunchResult {
		why := &executorv1.Error{Reason: reason, Message: message}
		return &executorv1.LaunchResult{InstanceId: spec.InstanceId, Outcome: &executorv1.LaunchResult_Error{Error: why}}
	}
	if !name.MatchString(spec.InstanceId) || spec.NodeType.GetName() == "" || spec.HeadAddress == "" {
		return refused("INVALID_REQUEST", "instance_id, node_type.name or head_address is not one")
	}
	if spec.ReplicaId != "" && (spec.ReplicaHost < 0 || spec.ReplicaHost >= spec.ReplicaSize) {
		return refused("INVALID_REQUEST", fmt.Sprintf("replica_host %d is not from 0 to %d", spec.ReplicaHost, spec.ReplicaSize-1))
	}
	same := &executorv1.LaunchSpec{
		NodeType: proto.Clone(spec.NodeType).(*executorv1.NodeType), HeadAddress: spec.HeadAddress, ReplicaId: spec.ReplicaId, ReplicaHost: spec.ReplicaHost,
	}
	same.NodeType.ProtoReflect().SetUnknown(nil) // what a newer caller adds makes no other spec
	text, err := proto.MarshalOptions{Deterministic: true}.Marshal(same)
	if err != nil {
		return refused("INVALID_REQUEST", err.Error())
	}
	if e.clusters[cluster] == nil {
		e.clusters[cluster] = map[string]*instance{}
	}
	known := e.clusters[cluster][spec.InstanceId]
	if known != nil && string(known.spec) != string(text) {
		return refused("CONFLICT", fmt.Sprintf("%s was launched with another spec", spec.InstanceId))
	}
	if known == nil {
		e.externals++
		known = &instance{spec: text, shown: &executorv1.Observation{
			InstanceId:  spec.InstanceId,
			NodeType:    spec.NodeType.Name,
			ExternalId:  fmt.Sprintf("fake-%s-%d", e.life, e.externals),
			MadeAs:      spec.NodeType,
			ReplicaId:   spec.ReplicaId,
			ReplicaHost: spec.ReplicaHost,
		}}
		e.clusters[cluster][spec.InstanceId] = known
		e.tell(cluster, known, executorv1.Phase_PHASE_REGISTERING, "")
	}
	return &executorv1.LaunchResult{InstanceId: spec.InstanceId, Outcome: &executorv1.LaunchResult_ExternalId{ExternalId: known.shown.ExternalId}}
}

func (e *executor) Terminate(_ context.Context, request *executorv1.TerminateRequest) (*executorv1.TerminateResponse, error) {
	if err := check(request.Cluster, request.InstanceIds); err != nil {
		return nil, err
	}
	e.mutex.Lock()
	defer e.mutex.Unlock()
	response := &executorv1.TerminateResponse{}
	for _, id := range request.InstanceIds {
		if known := e.clusters[request.Cluster][id]; known != nil && known.shown.Phase != executorv1.Phase_PHASE_ENDING {
			e.tell(request.Cluster, known, executorv1.Phase_PHASE_ENDING, "")
			time.AfterFunc(ending, func() {
				e.mutex.Lock()
				defer e.mutex.Unlock()
				e.gone(request.Cluster, known, "")
			})
		}
		response.Results = append(response.Results, &executorv1.TerminateResult{InstanceId: id})
	}
	return response, nil
}

func (e *executor) List(_ context.Context, request *executorv1.ListRequest) (*executorv1.ListResponse, error) {
	if request.Cluster == "" || request.PageSize < 0 {
		return nil, told(codes.InvalidArgument, "INVALID_REQUEST", "cluster is empty, or page_size negative")
	}
	e.mutex.Lock()
	defer e.mutex.Unlock()
	bookmark, after, _ := strings.Cut(request.PageToken, "/")
	if bookmark == "" {
		bookmark = e.bookmark(len(e.journal))
	}
	if _, err := e.place(bookmark); err != nil {
		return nil, err
	}
	ids := make([]string, 0, len(e.clusters[request.Cluster]))
	for id := range e.clusters[request.Cluster] {
		if id > after {
			ids = append(ids, id)
		}
	}
	sort.Strings(ids)
	size := mostInACall
	if request.PageSize > 0 {
		size = min(size, int(request.PageSize))
	}
	response := &executorv1.ListResponse{Bookmark: bookmark}
	if len(ids) > size {
		ids = ids[:size]
		response.NextPageToken = bookmark + "/" + ids[size-1]
	}
	for _, id := range ids {
		response.Observations = append(response.Observations, e.clusters[request.Cluster][id].shown)
	}
	return response, nil
}

func (e *executor) Watch(request *executorv1.WatchRequest, stream executorv1.ExecutorService_WatchServer) error {
	if request.Cluster == "" {
		return told(codes.InvalidArgument, "INVALID_REQUEST", "cluster is empty")
	}
	e.mutex.Lock()
	next := len(e.journal)
	if request.Bookmark != "" {
		place, err := e.place(request.Bookmark)
		if err != nil {
			e.mutex.Unlock()
			return err
		}
		next = place
	}
	e.mutex.Unlock()
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	for {
		if err := stream.Send(&executorv1.WatchResponse{Bookmark: e.bookmark(next)}); err != nil {
			return err
		}
		e.mutex.Lock()
		changes, appended := e.journal[next:], e.appended
		e.mutex.Unlock()
		for _, each := range changes {
			next++
			if each.cluster != request.Cluster {
				continue
			}
			if err := stream.Send(&executorv1.WatchResponse{Observation: each.observation, Bookmark: e.bookmark(next)}); err != nil {
				return err
			}
		}
		select {
		case <-appended:
		case <-ticker.C:
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}

// tell notes a phase, writes it down and wakes whoever watches.
func (e *executor) tell(cluster string, about *instance, phase executorv1.Phase, why string) {
	shown := proto.Clone(about.shown).(*executorv1.Observation)
	shown.Phase, shown.Error = phase, why
	about.shown = shown
	e.journal = append(e.journal, change{cluster, shown})
	close(e.appended)
	e.appended = make(chan struct{})
}

func (e *executor) gone(cluster string, about *instance, why string) {
	if e.clusters[cluster][about.shown.InstanceId] == about {
		delete(e.clusters[cluster], about.shown.InstanceId)
		e.tell(cluster, about, executorv1.Phase_PHASE_GONE, why)
	}
}

// reap has instances die whose names are put into a directory.
func (e *executor) reap(killed string) {
	for range time.Tick(look) {
		entries, err := os.ReadDir(killed)
		if err != nil {
			continue
		}
		e.mutex.Lock()
		for _, entry := range entries {
			for cluster, instances := range e.clusters {
				if known := instances[entry.Name()]; known != nil {
					e.gone(cluster, known, "somebody pulled the plug")
				}
			}
			if err := os.Remove(filepath.Join(killed, entry.Name())); err != nil {
				e.log.Error("what was killed stays", "error", err)
			}
		}
		e.mutex.Unlock()
	}
}

func (e *executor) bookmark(place int) string {
	return fmt.Sprintf("%s.%d", e.life, place)
}

func (e *executor) place(bookmark string) (int, error) {
	life, text, _ := strings.Cut(bookmark, ".")
	place, err := strconv.Atoi(text)
	if life != e.life || err != nil || place < 0 || place > len(e.journal) {
		return 0, told(codes.OutOfRange, "BOOKMARK_EXPIRED", "it is none of this life's: list again")
	}
	return place, nil
}

// check refuses a call whole.
func check(cluster string, ids []string) error {
	seen := map[string]bool{}
	for _, id := range ids {
		if seen[id] {
			return told(codes.InvalidArgument, "INVALID_REQUEST", fmt.Sprintf("%s stands there twice", id))
		}
		seen[id] = true
	}
	if cluster == "" || len(ids) == 0 || len(ids) > mostInACall {
		return told(codes.InvalidArgument, "INVALID_REQUEST", fmt.Sprintf("cluster is empty, or there are not from 1 to %d instances", mostInACall))
	}
	return nil
}

// told returns a status with the reason by which rayscaler knows it.
func told(code codes.Code, reason, message string) error {
	made := status.New(code, message)
	with, err := made.WithDetails(&errdetails.ErrorInfo{Reason: reason, Domain: "rayscaler.io"})
	if err != nil {
		return made.Err()
	}
	return with.Err()
}
