// Command monitor is a monitor for rayscaler in Go, written from proto/SPEC.md and the two .proto files alone. H numbers are SPEC's.
// This file has its loop and the service's side, gcs.go Ray's.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"log"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	pb "rayscaler.io/tests/protocol/monitor/gen/head"
)

// monitor is owned by main; what goes on beside it hands over through done.
type monitor struct {
	name, service, incarnation string
	ca, token                  string // files, if not empty
	channel, gcs               *grpc.ClientConn
	epoch, sequence, failures  int64
	rest                       *time.Timer
	isLost                     atomic.Bool // another cluster may be at the GCS's address (H35)
	cluster                    string
	life, version, tried       int64                        // of the GCS, of its last state, and highest told of ours
	last                       line                         // of the last whole reading
	told                       map[string]any               // what the GCS has taken in this life, by subject
	isTelling                  map[string]bool              // by subject
	commands                   map[string]*pb.CommandResult // nil while under way; kept after the acknowledgement (H52)
	results                    []*pb.CommandResult
	done                       chan func()
}

// turn reads, reports the whole reading, takes the answer, and returns how long to rest.
func (m *monitor) turn() time.Duration {
	request, unread := m.read()
	if unread != nil && m.isLost.Load() { // H35
		request, unread = m.read()
	}
	if unread != nil {
		request = &pb.ReportDemandRequest{GcsError: unread.Error()}
	}
	m.sequence++
	request.Cluster, request.HeadIncarnation, request.MonitorEpoch, request.Sequence = m.name, m.incarnation, m.epoch, m.sequence
	request.ReportedStateVersion, _ = m.told["state"].(int64)
	request.ReportedConfigHash, _ = m.told["config"].(string)
	request.Results = m.results
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if m.token != "" { // H62
		token, err := os.ReadFile(m.token)
		if err != nil {
			return m.failed(err)
		}
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	answer := &pb.ReportDemandResponse{}
	if err := m.channel.Invoke(ctx, "/rayscaler.api.head.v1.HeadService/ReportDemand", request, answer); err != nil {
		return m.failed(err)
	}
	m.failures = 0
	m.results = slices.DeleteFunc(m.results, func(r *pb.CommandResult) bool { return slices.Contains(answer.Acknowledged, r.CommandId) })
	for _, command := range answer.Commands {
		m.start(command)
	}
	interval := min(max(answer.NextInterval.AsDuration(), 100*time.Millisecond), time.Minute)
	if unread != nil {
		return min(interval, 300*time.Millisecond)
	}
	m.tellAll(answer)
	return interval
}

// failed returns how long to rest after a refusal (H20, H32).
func (m *monitor) failed(err error) time.Duration {
	log.Printf("report %d: %v", m.sequence, err)
	m.failures++
	m.channel.Close()
	m.channel = m.dialService()
	switch status.Code(err) {
	case codes.InvalidArgument, codes.FailedPrecondition, codes.PermissionDenied, codes.Unauthenticated, codes.Unimplemented, codes.ResourceExhausted:
		return 30 * time.Second
	}
	return min(200*time.Millisecond<<min(m.failures-1, 10), 2*time.Second)
}

// start carries a command out once (H11), at the cluster read last (H46); a known one is answered from memory (H52).
func (m *monitor) start(command *pb.Command) {
	id, l := command.CommandId, m.last
	result, isKnown := m.commands[id]
	if isKnown && result == nil || slices.Contains(m.results, result) {
		return
	}
	m.commands[id] = nil
	go func() {
		if result == nil {
			result = l.carryOut(command)
		}
		m.done <- func() {
			m.commands[id], m.results = result, append(m.results, result)
			if m.failures == 0 {
				m.rest.Reset(0) // H19
			}
		}
	}()
}

// tell sends a value of a subject beside the loop, unless the GCS has it; what fails comes again with a later answer.
func (m *monitor) tell(subject string, value any, send func(*line)) {
	if m.isTelling[subject] || m.told[subject] == value {
		return
	}
	m.isTelling[subject] = true
	life, l := m.life, m.last
	go func() {
		send(&l)
		m.done <- func() {
			m.isTelling[subject] = false
			if l.err == nil && m.life == life {
				m.told[subject] = value
			}
		}
	}()
}

// codec drops fields that gcs.proto does not have (H60).
type codec struct{}

func (codec) Name() string                  { return "proto" }
func (codec) Marshal(v any) ([]byte, error) { return proto.Marshal(v.(proto.Message)) }
func (codec) Unmarshal(data []byte, v any) error {
	return proto.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(data, v.(proto.Message))
}

// dialService dials over TLS if there is an authority to trust (H61): one that cannot be read is one that vouches for nobody.
func (m *monitor) dialService() *grpc.ClientConn {
	if m.ca == "" {
		return dial(m.service)
	}
	roots := x509.NewCertPool()
	if pem, err := os.ReadFile(m.ca); err != nil || !roots.AppendCertsFromPEM(pem) {
		log.Printf("%s: no certificate in it: %v", m.ca, err)
	}
	return dial(m.service, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12})))
}

// dial opens a channel, plain text unless told otherwise, for large messages (H30) that is tried anew soon.
func dial(address string, options ...grpc.DialOption) *grpc.ClientConn {
	pace := backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.5, MaxDelay: 200 * time.Millisecond}
	channel, err := grpc.NewClient(address, append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: pace, MinConnectTimeout: time.Second}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(512<<20), grpc.MaxCallSendMsgSize(32<<20), grpc.ForceCodec(codec{})),
	}, options...)...)
	if err != nil {
		log.Fatalf("%s is no address: %v", address, err)
	}
	return channel
}

func main() {
	m := &monitor{epoch: time.Now().UnixMilli(), rest: time.NewTimer(0), done: make(chan func()), isTelling: map[string]bool{}}
	m.commands = map[string]*pb.CommandResult{}
	flag.StringVar(&m.name, "cluster", "", "the cluster's name in its definition")
	flag.StringVar(&m.service, "service", "127.0.0.1:6380", "the rayscaler service")
	flag.StringVar(&m.incarnation, "incarnation", "", "which head this is")
	flag.StringVar(&m.ca, "ca", "", "file with the authority to trust; TLS if given")
	flag.StringVar(&m.token, "token", "", "file with the token to show the service")
	address := flag.String("gcs", "127.0.0.1:6379", "the head's GCS")
	flag.Parse()
	if m.token != "" && m.ca == "" {
		log.Fatal("a token is sent over TLS only (H62): give -ca too")
	}
	m.gcs, m.channel = dial(*address, grpc.WithNoProxy()), m.dialService()
	m.isLost.Store(true)
	for {
		select {
		case take := <-m.done:
			take()
		case <-m.rest.C:
			m.rest.Reset(m.turn())
		}
	}
}
