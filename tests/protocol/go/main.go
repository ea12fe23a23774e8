// Command monitor is a monitor for rayscaler in Go, written from proto/SPEC.md and the two .proto files alone.
// Its loop; gcs.go has Ray's side and convert.go what a snapshot is made of. H numbers are SPEC's.
package main

import (
	"context"
	"flag"
	"log"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "rayscaler.io/tests/protocol/monitor/gen/head"
)

// monitor is owned by run; goroutines hand what they found to it through done.
type monitor struct {
	cluster, service, incarnation string
	gcs                           *gcs
	channel                       *grpc.ClientConn
	epoch, sequence, failures     int64
	interval                      time.Duration
	sentAt                        time.Time
	base                          *base
	commands                      map[string]*pb.CommandResult // nil while under way; kept after the acknowledgement (H52)
	unacknowledged                []*pb.CommandResult
	isDue, isBlind, isTelling     bool
	done                          chan func()
}

// base is the snapshot that the service surely has (H8).
type base struct {
	sequence int64
	*reading
}

func (m *monitor) run() {
	for {
		rest := time.After(m.turn())
		for isResting := true; isResting; {
			select {
			case take := <-m.done:
				take()
				isResting = !m.isDue || m.failures > 0
			case <-rest:
				isResting = false
			}
		}
	}
}

// turn reads, reports if there is a reason to, takes the answer, and returns how long to rest.
func (m *monitor) turn() time.Duration {
	found, err := m.gcs.read()
	pause := m.interval
	request := &pb.ReportDemandRequest{Cluster: m.cluster, HeadIncarnation: m.incarnation, MonitorEpoch: m.epoch}
	if err != nil {
		pause = 200 * time.Millisecond
		request.GcsError = err.Error()
		m.isDue = m.isDue || !m.isBlind || time.Since(m.sentAt) > time.Second
	} else {
		request.Session, request.RayVersion, request.V1Mode = found.session, found.rayVersion, found.isV1
		if m.base != nil && found.repeats(m.base.reading) {
			request.BaseSequence = m.base.sequence
			m.isDue = m.isDue || time.Since(m.sentAt) > min(2*time.Second, 4*m.interval)
		} else {
			request.Snapshot, m.isDue = found.snapshot, true
		}
		request.Age = durationpb.New(time.Since(found.at))
	}
	m.isBlind = err != nil
	if !m.isDue {
		return pause
	}
	m.sequence++
	request.Sequence, request.Results = m.sequence, m.unacknowledged
	request.ReportedStateVersion, request.ReportedConfigHash = m.gcs.told()
	m.sentAt = time.Now()
	answer, err := m.report(request)
	if err != nil {
		return m.failed(err)
	}
	m.failures, m.isDue = 0, false
	if request.Snapshot != nil {
		m.base = &base{m.sequence, found}
	}
	m.take(answer, found)
	if answer.NextInterval != nil {
		m.interval = min(max(answer.NextInterval.AsDuration(), 100*time.Millisecond), time.Minute)
	}
	if answer.WantSnapshot {
		m.base = nil
		return 100 * time.Millisecond
	}
	return min(pause, m.interval)
}

func (m *monitor) report(request *pb.ReportDemandRequest) (*pb.ReportDemandResponse, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if m.channel == nil {
		m.channel = dial(m.service)
	}
	answer := new(pb.ReportDemandResponse)
	return answer, m.channel.Invoke(ctx, "/rayscaler.api.head.v1.HeadService/ReportDemand", request, answer)
}

// failed returns how long to rest after a refusal (H20, H32); the next report is a whole one over a fresh channel.
func (m *monitor) failed(err error) time.Duration {
	log.Printf("report %d: %v", m.sequence, err)
	m.failures++
	m.base, m.isDue = nil, true
	m.channel.Close()
	m.channel = nil
	switch status.Code(err) {
	case codes.InvalidArgument, codes.FailedPrecondition, codes.PermissionDenied, codes.Unimplemented, codes.ResourceExhausted, codes.AlreadyExists:
		return 30 * time.Second
	}
	return min(200*time.Millisecond<<min(m.failures-1, 10), 2*time.Second)
}

// take does what an answer says: found is the reading that it answers, nil where there was none.
func (m *monitor) take(answer *pb.ReportDemandResponse, found *reading) {
	acknowledged := map[string]bool{}
	for _, id := range answer.Acknowledged {
		acknowledged[id] = true
	}
	kept := m.unacknowledged
	m.unacknowledged = nil
	for _, result := range kept {
		if !acknowledged[result.CommandId] {
			m.unacknowledged = append(m.unacknowledged, result)
		}
	}
	for _, command := range answer.Commands {
		m.start(command)
	}
	if found != nil && !m.isTelling {
		m.isTelling = true
		go func() {
			m.gcs.tell(answer)
			m.done <- func() { m.isTelling = false }
		}()
	}
}

// start carries a command out once (H11); one that is known already is answered from memory (H52).
func (m *monitor) start(command *pb.Command) {
	id := command.CommandId
	if result, isKnown := m.commands[id]; isKnown {
		for _, each := range m.unacknowledged {
			if each.CommandId == id {
				return
			}
		}
		if result != nil {
			m.unacknowledged, m.isDue = append(m.unacknowledged, result), true
		}
		return
	}
	m.commands[id] = nil
	cluster := m.gcs.last() // H46
	go func() {
		outcome, detail := m.gcs.carryOut(command, cluster)
		m.done <- func() {
			m.commands[id] = &pb.CommandResult{CommandId: id, Outcome: outcome, Detail: detail}
			m.unacknowledged, m.isDue = append(m.unacknowledged, m.commands[id]), true
		}
	}()
}

// dial opens a plain-text channel for large messages (H30) that is tried anew soon.
func dial(address string, options ...grpc.DialOption) *grpc.ClientConn {
	pace := backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.5, MaxDelay: 200 * time.Millisecond}
	channel, err := grpc.NewClient(address, append(options,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: pace, MinConnectTimeout: time.Second}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(512<<20), grpc.MaxCallSendMsgSize(32<<20)))...)
	if err != nil {
		log.Fatalf("%s is no address: %v", address, err)
	}
	return channel
}

func main() {
	m := &monitor{epoch: time.Now().UnixMilli(), interval: 500 * time.Millisecond, commands: map[string]*pb.CommandResult{}, done: make(chan func())}
	flag.StringVar(&m.cluster, "cluster", "", "the cluster's name in its definition")
	flag.StringVar(&m.service, "service", "127.0.0.1:6380", "the rayscaler service")
	flag.StringVar(&m.incarnation, "incarnation", "", "which head this is")
	address := flag.String("gcs", "127.0.0.1:6379", "the head's GCS")
	flag.Parse()
	m.gcs = &gcs{channel: dial(*address, grpc.WithNoProxy())}
	m.run()
}
