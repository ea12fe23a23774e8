// Package executor serves rayscaler's executor protocol for a fleet: which machine a worker runs on, and who is told what. How machines are reached
// is internal/machine's.
package executor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	executorv1 "rayscaler.io/api/executor/v1"

	"rayscaler.io/examples/plugin-go-ssh/internal/fleet"
	"rayscaler.io/examples/plugin-go-ssh/internal/machine"
)

const (
	name            = "ssh.rayscaler.io"
	version         = "0.1.0"
	protocolVersion = 1
	mostOnAPage     = 1000
	beatPeriod      = 5 * time.Second
	// What begins later than so long before the call's deadline has no time to be answered.
	lastTurn = time.Second
	// Instances in one call: what even a single slow machine takes well within a call's deadline.
	batch = 64
	// Starts at once in one call: over different machines they do not hinder each other, on one its agent takes them in turn.
	atOnce      = 32
	errorDomain = "rayscaler.io"
)

// Executor is the service.
type Executor struct {
	executorv1.UnimplementedExecutorServiceServer
	links []*machine.Link
	feed  *feed
	log   *slog.Logger

	placing sync.Mutex // held while a machine is chosen; never while one is asked
	chosen  map[machine.Key]*placement
}

// placement is the machine that calls under way have chosen for an instance.
type placement struct {
	link  *machine.Link
	calls int
}

// New makes the service of a fleet; Run reaches the machines.
func New(of *fleet.Fleet, timings machine.Timings, log *slog.Logger) *Executor {
	e := &Executor{feed: newFeed(), log: log, chosen: map[machine.Key]*placement{}}
	for index := range of.Machines {
		each := &of.Machines[index]
		e.links = append(e.links, machine.New(each, of, timings, log, func(view *machine.View) {
			e.feed.tell(view.Cluster, observation(each, view, ""))
		}))
	}
	return e
}

// Run keeps the machines in reach until the context ends.
func (e *Executor) Run(ctx context.Context) {
	var running sync.WaitGroup
	for _, link := range e.links {
		running.Go(func() { link.Run(ctx) })
	}
	running.Wait()
}

// GetInfo tells who this is.
func (e *Executor) GetInfo(context.Context, *executorv1.GetInfoRequest) (*executorv1.GetInfoResponse, error) {
	return &executorv1.GetInfoResponse{Name: name, Version: version, ProtocolVersion: protocolVersion}, nil
}

// GetCapabilities tells that nothing besides what is REQUIRED is served.
func (e *Executor) GetCapabilities(context.Context, *executorv1.GetCapabilitiesRequest) (*executorv1.GetCapabilitiesResponse, error) {
	return &executorv1.GetCapabilitiesResponse{Limits: &executorv1.CallLimits{Batch: batch}}, nil
}

// Probe is not ready until every machine was tried; those out of reach then are told of by List.
func (e *Executor) Probe(context.Context, *executorv1.ProbeRequest) (*executorv1.ProbeResponse, error) {
	for _, link := range e.links {
		select {
		case <-link.HasTried():
		default:
			return &executorv1.ProbeResponse{NotReady: "reaches machine " + link.Status().Machine.Name + " for the first time"}, nil
		}
	}
	return &executorv1.ProbeResponse{}, nil
}

// Launch starts workers, each by itself.
func (e *Executor) Launch(ctx context.Context, request *executorv1.LaunchRequest) (*executorv1.LaunchResponse, error) {
	if problems := checkLaunch(request); len(problems) > 0 {
		return nil, invalid(problems)
	}
	results := make([]*executorv1.LaunchResult, len(request.Specs))
	each(len(results), func(index int) {
		spec := request.Specs[index]
		result := &executorv1.LaunchResult{InstanceId: spec.InstanceId}
		externalID, failure := e.launch(ctx, request.Cluster, spec, request.Supervisor)
		if failure != nil {
			result.Outcome = &executorv1.LaunchResult_Error{Error: failure}
		} else {
			result.Outcome = &executorv1.LaunchResult_ExternalId{ExternalId: externalID}
		}
		results[index] = result
	})
	return &executorv1.LaunchResponse{Results: results}, nil
}

// launch starts one worker on the machine that has it, may have it, or has the most room; a machine that turns out to be full is passed over.
func (e *Executor) launch(ctx context.Context, cluster string, spec *executorv1.LaunchSpec, supervisor string) (string, *executorv1.Error) {
	if problems := checkSpec(spec); len(problems) > 0 {
		return "", &executorv1.Error{Reason: "INVALID_REQUEST", Message: text(problems), Problems: problems}
	}
	key := machine.Key{Cluster: cluster, InstanceID: spec.InstanceId}
	kept, err := keep(spec)
	if err != nil {
		return "", &executorv1.Error{Reason: "INVALID_REQUEST", Message: err.Error()}
	}
	full := map[*machine.Link]bool{}
	for {
		if deadline, isSet := ctx.Deadline(); isSet && time.Until(deadline) < lastTurn {
			return "", &executorv1.Error{Reason: "BUSY", Message: "its turn did not come within the call's deadline"}
		}
		link, failure := e.choose(key, spec.NodeType.Name, full)
		if failure != nil {
			return "", failure
		}
		on := link.Status().Machine
		view, err := link.Launch(ctx, order(cluster, spec, supervisor, kept, on))
		e.settle(key)
		var refusal *machine.Refusal
		switch {
		case err == nil && isSame(view.Spec, kept):
			return externalID(on, spec.InstanceId), nil
		case err == nil:
			return "", &executorv1.Error{Reason: "CONFLICT", Message: spec.InstanceId + " exists with another spec; use a new instance_id"}
		case errors.As(err, &refusal) && refusal.Word == "FULL":
			full[link] = true // by another service with the same stateDir, or one whose end is not told yet
		case errors.As(err, &refusal):
			return "", &executorv1.Error{Reason: refusal.Word, Message: fmt.Sprintf("machine %s: %s", on.Name, refusal.Why)}
		default:
			return "", &executorv1.Error{Reason: "UNAVAILABLE", Message: err.Error()}
		}
	}
}

// choose finds the machine for an instance and takes a slot there until settle.
func (e *Executor) choose(key machine.Key, nodeType string, full map[*machine.Link]bool) (*machine.Link, *executorv1.Error) {
	e.placing.Lock()
	defer e.placing.Unlock()
	if known := e.chosen[key]; known != nil && !full[known.link] {
		known.calls++ // of two calls at once the second finds what the first began
		return known.link, nil
	} else if known != nil {
		return nil, &executorv1.Error{Reason: "BUSY", Message: key.InstanceID + " is being launched by another call"}
	}
	taken := map[*machine.Link]int{}
	for _, each := range e.chosen {
		taken[each.link]++
	}
	statuses := make([]machine.Status, len(e.links))
	for index, link := range e.links {
		statuses[index] = link.Status()
		if statuses[index].Views[key] != nil {
			e.chosen[key] = &placement{link, 1}
			return link, nil
		}
	}
	for index, link := range e.links {
		if link.IsInDoubt(key) {
			if !statuses[index].IsConnected {
				return nil, &executorv1.Error{Reason: "UNAVAILABLE", Message: "it may run already on " + outOfReach(&statuses[index])}
			}
			e.chosen[key] = &placement{link, 1}
			return link, nil
		}
	}
	link, failure := e.emptiest(nodeType, statuses, taken, full)
	if link != nil {
		e.chosen[key] = &placement{link, 1}
	}
	return link, failure
}

// emptiest returns the machine with the least part of its slots taken, of equal ones the first.
func (e *Executor) emptiest(
	nodeType string, statuses []machine.Status, taken map[*machine.Link]int, full map[*machine.Link]bool,
) (*machine.Link, *executorv1.Error) {
	var best *machine.Link
	var bestPart float64
	var slots, fit int
	var away []string
	for index, link := range e.links {
		now := &statuses[index]
		if !now.Machine.CanBe(nodeType) {
			continue
		}
		fit++
		if !now.IsConnected {
			away = append(away, outOfReach(now))
			continue
		}
		slots += now.Machine.Workers
		part := float64(len(now.Views)+taken[link]) / float64(now.Machine.Workers)
		if part < 1 && !full[link] && (best == nil || part < bestPart) {
			best, bestPart = link, part
		}
	}
	switch {
	case best != nil:
		return best, nil
	case fit == 0:
		problem := &executorv1.Problem{Path: "node_type.name", Value: nodeType, Rule: "no machine of the fleet can be one: see nodeTypes in its file"}
		return nil, &executorv1.Error{Reason: "INVALID_REQUEST", Message: text([]*executorv1.Problem{problem}), Problems: []*executorv1.Problem{problem}}
	default:
		why := fmt.Sprintf("all %d slots of machines that can be %s are taken", slots, nodeType)
		return nil, &executorv1.Error{Reason: "INSUFFICIENT_CAPACITY", Message: strings.Join(append([]string{why}, away...), "; ")}
	}
}

// settle gives back what choose took: from now on the link itself knows the worker, or that there is none.
func (e *Executor) settle(key machine.Key) {
	e.placing.Lock()
	defer e.placing.Unlock()
	if e.chosen[key].calls--; e.chosen[key].calls == 0 {
		delete(e.chosen, key)
	}
}

// Terminate begins the end of workers, each by itself.
func (e *Executor) Terminate(ctx context.Context, request *executorv1.TerminateRequest) (*executorv1.TerminateResponse, error) {
	if problems := checkTerminate(request); len(problems) > 0 {
		return nil, invalid(problems)
	}
	results := make([]*executorv1.TerminateResult, len(request.InstanceIds))
	each(len(results), func(index int) {
		id := request.InstanceIds[index]
		results[index] = &executorv1.TerminateResult{InstanceId: id, Error: e.terminate(ctx, machine.Key{Cluster: request.Cluster, InstanceID: id})}
	})
	return &executorv1.TerminateResponse{Results: results}, nil
}

// terminate asks the machine that has the instance, or all of which that is not known.
func (e *Executor) terminate(ctx context.Context, key machine.Key) *executorv1.Error {
	asked := e.links
	if index := slices.IndexFunc(e.links, func(link *machine.Link) bool { return link.Status().Views[key] != nil }); index >= 0 {
		asked = e.links[index : index+1]
	}
	for _, link := range asked {
		if err := link.End(ctx, key); err != nil {
			return &executorv1.Error{Reason: "UNAVAILABLE", Message: err.Error()}
		}
	}
	return nil
}

// order makes what an agent is told.
func order(cluster string, spec *executorv1.LaunchSpec, supervisor string, kept []byte, on *fleet.Machine) *machine.Order {
	argv := slices.Clone(spec.RayStart.GetArgv())
	if _, isSet := spec.NodeType.StartParams["node-ip-address"]; on.IP != "" && !isSet && len(argv) > 0 && slices.Contains(argv, "start") {
		argv = append(argv, "--node-ip-address="+on.IP)
	}
	return &machine.Order{
		Cluster: cluster, InstanceID: spec.InstanceId, Spec: kept, HeadAddress: spec.HeadAddress,
		Argv: argv, Env: spec.RayStart.GetEnv(), NotInherited: spec.RayStart.GetNotInherited(), Supervisor: supervisor,
	}
}

// keep makes what is kept with a worker: what tells its spec from another one. How Ray is started is no part of it.
func keep(spec *executorv1.LaunchSpec) ([]byte, error) {
	return protojson.Marshal(&executorv1.LaunchSpec{
		InstanceId: spec.InstanceId, NodeType: spec.NodeType, HeadAddress: spec.HeadAddress, ReplicaId: spec.ReplicaId, ReplicaHost: spec.ReplicaHost,
	})
}

// isSame says whether two kept specs are the same, whatever wrote them.
func isSame(kept, other []byte) bool {
	a, b := &executorv1.LaunchSpec{}, &executorv1.LaunchSpec{}
	return readKept(kept, a) == nil && readKept(other, b) == nil && proto.Equal(a, b)
}

func readKept(kept []byte, into *executorv1.LaunchSpec) error {
	return protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(kept, into)
}

// each runs work for every index, so many at once.
func each(count int, work func(int)) {
	var running sync.WaitGroup
	turns := make(chan struct{}, atOnce)
	for index := range count {
		turns <- struct{}{}
		running.Go(func() {
			defer func() { <-turns }()
			work(index)
		})
	}
	running.Wait()
}

func invalid(problems []*executorv1.Problem) error {
	return failed(codes.InvalidArgument, "INVALID_REQUEST", text(problems))
}

func expired(err error) error { return failed(codes.OutOfRange, "BOOKMARK_EXPIRED", err.Error()) }

func failed(code codes.Code, reason, message string) error {
	plain := status.New(code, message)
	if detailed, err := plain.WithDetails(&errdetails.ErrorInfo{Reason: reason, Domain: errorDomain}); err == nil {
		return detailed.Err()
	}
	return plain.Err()
}
