package executor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	executorv1 "rayscaler.io/api/executor/v1"

	"rayscaler.io/examples/plugin-go-ssh/internal/fleet"
	"rayscaler.io/examples/plugin-go-ssh/internal/machine"
)

const (
	// How long anything may take.
	patience = 60 * time.Second
	hubIP    = "10.77.0.1"

	// What stands for `ray start` in these tests: it says that it is up, and runs.
	goodWorker = `echo "Ray runtime started."; sleep 600`
	// Neither it nor its child, which leaves the session, ends by being asked. The child has no output that it could die of once nobody reads it.
	stubbornWorker = `trap "" TERM; setsid sh -c 'trap "" TERM; while :; do sleep 600; done' >/dev/null 2>&1 & echo "Ray runtime started."; while :; do sleep 600; done`
)

// A busy machine's agent still speaks as often as this.
var timings = machine.Timings{Ping: time.Second, Silence: 4 * time.Second, Answer: 3 * time.Second, Doubt: 3 * time.Second}

var testbed = "../../testbed.sh"

// TestMain runs the tests in a testbed of two machines.
func TestMain(m *testing.M) {
	if os.Getenv("TESTBED") != "" {
		os.Exit(m.Run())
	}
	if os.Getuid() != 0 {
		fmt.Println("skipped: needs root, for network namespaces with a sshd each")
		os.Exit(0)
	}
	here, err := os.Executable()
	if err != nil {
		panic(err)
	}
	command := exec.Command(testbed, append([]string{"run", "2", here}, os.Args[1:]...)...)
	command.Stdout, command.Stderr, command.Env = os.Stdout, os.Stderr, append(os.Environ(), "FLEET_KEEP="+filepath.Dir(here))
	if err := command.Run(); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			fmt.Println(err)
		}
		os.Exit(1)
	}
}

// bed is one executor over the testbed, called over gRPC as rayscaler calls it.
type bed struct {
	*testing.T
	executorv1.ExecutorServiceClient
	fleet   *fleet.Fleet
	cluster string
	gcs     string
	end     func()
}

// newBed reaches all machines, which hold one worker each unless `change` says otherwise; in the end it leaves none of its cluster's.
func newBed(t *testing.T, change func(*fleet.Fleet)) *bed {
	t.Helper()
	of, err := fleet.Read(filepath.Join(os.Getenv("TESTBED"), "fleet.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	of.StateDir = "/tmp/" + t.Name() // apart from the other tests'
	of.Grace = 3 * time.Second
	if change != nil {
		change(of)
	}
	b := &bed{T: t, fleet: of, cluster: "c", gcs: fakeGCS(t)}
	b.start()
	t.Cleanup(func() {
		for _, each := range of.Machines {
			b.eventually("machine "+each.Name+" is empty", func() bool { return b.on(each.Name, "pgrep", "-cf", "[r]untime started") == "0" })
		}
	})
	t.Cleanup(func() { b.end() })
	t.Cleanup(b.endAll)
	return b
}

// start makes an executor and waits until it is ready, which one is also when a machine is out of reach.
func (b *bed) start() {
	b.Helper()
	socket := filepath.Join(b.TempDir(), "socket")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		b.Fatal(err)
	}
	service := New(b.fleet, timings, slog.New(slog.NewTextHandler(b.Output(), nil)))
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		service.Run(ctx)
	}()
	server := grpc.NewServer()
	executorv1.RegisterExecutorServiceServer(server, service)
	go func() { _ = server.Serve(listener) }()
	channel, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.Fatal(err)
	}
	b.ExecutorServiceClient = executorv1.NewExecutorServiceClient(channel)
	b.end = func() {
		_ = channel.Close()
		server.Stop()
		stop()
		<-ended
	}
	b.eventually("the executor is ready", func() bool {
		answer, err := b.Probe(b.Context(), &executorv1.ProbeRequest{})
		return err == nil && answer.NotReady == ""
	})
}

func (b *bed) restart() {
	b.end()
	b.start()
}

func (b *bed) endAll() {
	for _, each := range b.list() {
		if err := b.terminate(each.InstanceId); err != nil {
			b.Error(err)
		}
	}
	b.eventually("nothing is listed", func() bool { return len(b.list()) == 0 })
}

// spec is what can be launched, always the same for the same id.
func (b *bed) spec(id, worker string) *executorv1.LaunchSpec {
	return &executorv1.LaunchSpec{
		InstanceId: id, HeadAddress: b.gcs,
		NodeType: &executorv1.NodeType{Name: "small", Resources: map[string]int64{"CPU": 10000}, Env: map[string]string{"A": "b"}},
		RayStart: &executorv1.RayStart{Argv: []string{"sh", "-c", worker}, Env: map[string]string{"A": "b"}, NotInherited: []string{"SSH_CLIENT"}},
	}
}

// tryLaunch launches in one call, and returns external ids and errors in the specs' order.
func (b *bed) tryLaunch(specs ...*executorv1.LaunchSpec) ([]string, []*executorv1.Error) {
	b.Helper()
	supervisor, err := os.ReadFile("../../../../rayscaler/rejoin.py")
	if err != nil {
		b.Fatal(err)
	}
	answer, err := b.Launch(context.Background(), &executorv1.LaunchRequest{Cluster: b.cluster, Specs: specs, Supervisor: string(supervisor)})
	if err != nil {
		b.Fatal(err)
	}
	ids, failures := make([]string, len(specs)), make([]*executorv1.Error, len(specs))
	for index, spec := range specs {
		for _, result := range answer.Results {
			if result.InstanceId == spec.InstanceId {
				ids[index], failures[index] = result.GetExternalId(), result.GetError()
			}
		}
	}
	return ids, failures
}

// launch launches one that must succeed, and returns its machine.
func (b *bed) launch(id string) string { return b.launchAs(b.spec(id, goodWorker)) }

func (b *bed) launchAs(spec *executorv1.LaunchSpec) string {
	b.Helper()
	ids, failures := b.tryLaunch(spec)
	if failures[0] != nil {
		b.Fatalf("launch of %s: %v", spec.InstanceId, failures[0])
	}
	on, _, _ := strings.Cut(ids[0], "/")
	return on
}

func (b *bed) terminate(ids ...string) error {
	answer, err := b.Terminate(context.Background(), &executorv1.TerminateRequest{Cluster: b.cluster, InstanceIds: ids})
	if err != nil {
		return err
	}
	for _, result := range answer.Results {
		if result.Error != nil {
			return errors.New(result.Error.String())
		}
	}
	return nil
}

func (b *bed) list() map[string]*executorv1.Observation {
	b.Helper()
	answer, err := b.List(context.Background(), &executorv1.ListRequest{Cluster: b.cluster})
	if err != nil {
		b.Fatal(err)
	}
	found := map[string]*executorv1.Observation{}
	for _, each := range answer.Observations {
		found[each.InstanceId] = each
	}
	return found
}

func (b *bed) bookmark() string {
	b.Helper()
	answer, err := b.List(context.Background(), &executorv1.ListRequest{Cluster: b.cluster, PageSize: 1})
	if err != nil {
		b.Fatal(err)
	}
	return answer.Bookmark
}

// watch tells what is told after a bookmark of an instance until it has a phase.
func (b *bed) watch(bookmark, id string, until executorv1.Phase) []*executorv1.Observation {
	b.Helper()
	ctx, stop := context.WithTimeout(context.Background(), patience)
	defer stop()
	stream, err := b.Watch(ctx, &executorv1.WatchRequest{Cluster: b.cluster, Bookmark: bookmark})
	if err != nil {
		b.Fatal(err)
	}
	var told []*executorv1.Observation
	for {
		answer, err := stream.Recv()
		if err != nil {
			b.Fatalf("watch for %s of %s: %v after %v", until, id, err, told)
		}
		if seen := answer.Observation; seen.GetInstanceId() == id {
			if len(told) > 0 && seen.Phase < told[len(told)-1].Phase {
				b.Errorf("%s went back from %s to %s", id, told[len(told)-1].Phase, seen.Phase)
			}
			if told = append(told, seen); seen.Phase == until {
				return told
			}
		}
	}
}

// reach waits until an instance is listed with a phase.
func (b *bed) reach(id string, phase executorv1.Phase) {
	b.Helper()
	b.eventually(fmt.Sprintf("%s is %s", id, phase), func() bool { return b.list()[id].GetPhase() == phase })
}

func (b *bed) eventually(what string, isSo func() bool) {
	b.Helper()
	for deadline := time.Now().Add(patience); !isSo(); time.Sleep(50 * time.Millisecond) { // nobody tells of such things
		if time.Now().After(deadline) {
			b.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// bench carries out testbed.sh's commands.
func (b *bed) bench(arguments ...string) string {
	b.Helper()
	command := exec.Command(testbed, arguments...)
	out, err := os.CreateTemp(b.TempDir(), "out") // a file: what is started holds a pipe open
	if err != nil {
		b.Fatal(err)
	}
	defer out.Close()
	command.Stdout, command.Stderr = out, out
	err = command.Run()
	text, _ := os.ReadFile(out.Name())
	if err != nil && arguments[0] != "on" {
		b.Fatalf("testbed.sh %v: %v: %s", arguments, err, text)
	}
	return strings.TrimSpace(string(text))
}

// on runs a command on a machine.
func (b *bed) on(machine string, command ...string) string {
	b.Helper()
	return b.bench(append([]string{"on", machine}, command...)...)
}

// fakeGCS is a port that begins HTTP/2 as a GCS does, which is all that a supervisor asks for while the head lives.
func fakeGCS(t *testing.T) string {
	listener, err := net.Listen("tcp", hubIP+":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			line, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = line.Write([]byte{0, 0, 0, 4, 0, 0, 0, 0, 0})
			go func() { _, _ = io.Copy(io.Discard, line) }()
		}
	}()
	return listener.Addr().String()
}

func code(err error) codes.Code { return status.Code(err) }
