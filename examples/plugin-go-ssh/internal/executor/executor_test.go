package executor

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	executorv1 "rayscaler.io/api/executor/v1"

	"rayscaler.io/examples/plugin-go-ssh/internal/fleet"
)

const (
	registering = executorv1.Phase_PHASE_REGISTERING
	ending      = executorv1.Phase_PHASE_ENDING
	gone        = executorv1.Phase_PHASE_GONE
)

func TestAWorkerRunsIsToldAndEnds(t *testing.T) {
	b := newBed(t, nil)
	before := b.bookmark()
	on := b.launch("one")
	if seen := b.list()["one"]; seen == nil || seen.ExternalId != on+"/one" || seen.NodeType != "small" {
		t.Fatalf("listed right after its launch: %v", seen)
	}
	told := b.watch(before, "one", registering)
	if made := told[len(told)-1].MadeAs; !proto.Equal(made, b.spec("one", "").NodeType) {
		t.Errorf("made as %v", made)
	}
	pid := b.on(on, "pgrep", "-of", "[s]leep 600")
	environment := b.on(on, "cat", "/proc/"+pid+"/environ")
	if !strings.Contains(environment, "A=b\x00") || strings.Contains(environment, "SSH_CLIENT=") {
		t.Errorf("its environment: %q", environment)
	}
	if err := b.terminate("one"); err != nil {
		t.Fatal(err)
	}
	told = b.watch(before, "one", gone)
	if !slices.ContainsFunc(told, func(o *executorv1.Observation) bool { return o.Phase == ending }) || told[len(told)-1].Error != "" {
		t.Errorf("the end that was asked for: %v", told)
	}
	if err := b.terminate("one", "never was"); err != nil {
		t.Errorf("ending what is not there: %v", err)
	}
}

func TestLaunchingTwiceIsOnceAndAnotherSpecIsConflict(t *testing.T) {
	b := newBed(t, nil)
	first, _ := b.tryLaunch(b.spec("same", goodWorker))
	spelled := b.spec("same", "echo spelled otherwise; "+goodWorker)
	if second, failures := b.tryLaunch(spelled); failures[0] != nil || second[0] != first[0] {
		t.Errorf("the second time: %v %v, the first: %v", second, failures, first)
	}
	other := b.spec("same", goodWorker)
	other.NodeType.Resources["CPU"] = 20000
	if _, failures := b.tryLaunch(other); failures[0].GetReason() != "CONFLICT" {
		t.Errorf("another spec: %v", failures[0])
	}
	if len(b.list()) != 1 {
		t.Errorf("listed: %v", b.list())
	}
}

func TestMachinesFillEvenlyAndThenThereIsNoRoomForMore(t *testing.T) {
	b := newBed(t, func(of *fleet.Fleet) { of.Machines[1].Workers = 2 })
	specs := []*executorv1.LaunchSpec{b.spec("a", goodWorker), b.spec("b", goodWorker), b.spec("c", goodWorker), b.spec("d", goodWorker)}
	bad := b.spec("e", goodWorker)
	bad.NodeType.Resources["CPU"] = -1
	_, failures := b.tryLaunch(append(specs, bad, b.spec("../f", goodWorker))...)
	var reasons []string
	for _, each := range failures {
		reasons = append(reasons, each.GetReason())
	}
	slices.Sort(reasons)
	if want := []string{"", "", "", "INSUFFICIENT_CAPACITY", "INVALID_REQUEST", "INVALID_REQUEST"}; !slices.Equal(reasons, want) {
		t.Errorf("one call: %v", failures)
	}
	per := map[string]int{}
	for _, each := range b.list() {
		on, _, _ := strings.Cut(each.ExternalId, "/")
		per[on]++
	}
	if per["m1"] != 1 || per["m2"] != 2 {
		t.Errorf("workers by machine: %v", per)
	}
}

func TestOnlyMachinesOfANodeTypeAreTaken(t *testing.T) {
	b := newBed(t, func(of *fleet.Fleet) {
		of.Machines[0].NodeTypes = []string{"big"}
		of.Machines[1].NodeTypes = []string{"small", "big"}
	})
	if on := b.launch("one"); on != "m2" {
		t.Errorf("a small one runs on %s", on)
	}
	if _, failures := b.tryLaunch(b.spec("two", goodWorker)); failures[0].GetReason() != "INSUFFICIENT_CAPACITY" {
		t.Errorf("a second small one: %v", failures[0])
	}
	other := b.spec("three", goodWorker)
	other.NodeType.Name = "huge"
	if _, failures := b.tryLaunch(other); failures[0].GetReason() != "INVALID_REQUEST" {
		t.Errorf("a type that no machine can be: %v", failures[0])
	}
}

func TestAnotherExecutorFindsWhatTheFirstBegan(t *testing.T) {
	b := newBed(t, nil)
	b.launch("one")
	b.launch("two")
	b.reach("one", registering)
	b.reach("two", registering)
	before := b.list()
	b.restart()
	after := b.list()
	for id, seen := range before {
		if after[id].GetPhase() != seen.Phase || after[id].GetExternalId() != seen.ExternalId || !proto.Equal(after[id].GetMadeAs(), seen.MadeAs) {
			t.Errorf("before: %v, after: %v", seen, after[id])
		}
	}
	b.launch("one")
	other := b.spec("two", goodWorker)
	other.HeadAddress = "192.0.2.1:1"
	if _, failures := b.tryLaunch(other); failures[0].GetReason() != "CONFLICT" {
		t.Errorf("another spec after a restart: %v", failures[0])
	}
}

func TestTwoCallsAtOnceBeginOne(t *testing.T) {
	b := newBed(t, nil)
	answers := make(chan string, 8)
	for range cap(answers) {
		go func() {
			ids, failures := b.tryLaunch(b.spec("one", goodWorker))
			answers <- ids[0] + failures[0].GetReason()
		}()
	}
	first := <-answers
	for range cap(answers) - 1 {
		if another := <-answers; another != first {
			t.Errorf("one call had %q, another %q", first, another)
		}
	}
	if seen := b.list(); len(seen) != 1 || seen["one"].ExternalId != first {
		t.Errorf("listed: %v", seen)
	}
}

func TestAFreshWatchSpeaksAtOnceAndGoesOn(t *testing.T) {
	b := newBed(t, nil)
	ctx, stop := context.WithTimeout(context.Background(), patience)
	defer stop()
	stream, err := b.Watch(ctx, &executorv1.WatchRequest{Cluster: b.cluster})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if answer, err := stream.Recv(); err != nil || answer.Bookmark == "" || answer.Observation != nil {
			t.Fatal(answer, err)
		}
	}
}

func TestOfTwoExecutorsOnOneStateDirectoryTheLastOneActs(t *testing.T) {
	b := newBed(t, nil)
	former, end := b.ExecutorServiceClient, b.end
	defer end()
	b.start()
	b.eventually("the former one has lost a machine", func() bool {
		answer, err := former.Launch(context.Background(), &executorv1.LaunchRequest{Cluster: b.cluster, Specs: []*executorv1.LaunchSpec{b.spec("one", goodWorker)}})
		return err == nil && answer.Results[0].GetError().GetReason() == "UNAVAILABLE"
	})
	end()
	b.eventually("the last one launches", func() bool {
		_, failures := b.tryLaunch(b.spec("two", goodWorker))
		return failures[0] == nil
	})
}

func TestWithoutASupervisorTheBareCommandRuns(t *testing.T) {
	b := newBed(t, nil)
	answer, err := b.Launch(context.Background(), &executorv1.LaunchRequest{Cluster: b.cluster, Specs: []*executorv1.LaunchSpec{b.spec("bare", goodWorker)}})
	if err != nil || answer.Results[0].GetError() != nil {
		t.Fatal(err, answer)
	}
	b.reach("bare", registering)
}

func TestACommandThatIsNotThereIsToldWithItsMachine(t *testing.T) {
	b := newBed(t, nil)
	spec := b.spec("none", "")
	spec.RayStart.Argv = []string{"no-such-command"}
	before := b.bookmark()
	b.launchAs(spec)
	told := b.watch(before, "none", gone)
	if last := told[len(told)-1]; !strings.Contains(last.Error, "`ray` cannot be run") || !strings.Contains(last.Error, "no-such-command") {
		t.Errorf("told: %v", last)
	}
}

func TestPagesTogetherTellEachOnce(t *testing.T) {
	b := newBed(t, func(of *fleet.Fleet) { of.Machines[0].Workers = 3; of.Machines[1].Workers = 2 })
	var wanted, found []string
	for _, id := range []string{"a", "b", "c", "d", "e"} {
		b.launch(id)
		wanted = append(wanted, id)
	}
	request := &executorv1.ListRequest{Cluster: b.cluster, PageSize: 2}
	for {
		answer, err := b.List(context.Background(), request)
		if err != nil {
			t.Fatal(err)
		}
		for _, each := range answer.Observations {
			found = append(found, each.InstanceId)
		}
		if request.PageToken = answer.NextPageToken; request.PageToken == "" {
			break
		}
	}
	if !slices.Equal(found, wanted) {
		t.Errorf("on all pages: %v", found)
	}
	if answer, err := b.List(context.Background(), &executorv1.ListRequest{Cluster: "other"}); err != nil || len(answer.Observations) != 0 {
		t.Errorf("of another cluster: %v %v", answer, err)
	}
}

func TestABookmarkOfAnotherLifeIsRefused(t *testing.T) {
	b := newBed(t, nil)
	old := b.bookmark()
	b.restart()
	for _, bookmark := range []string{old, "nonsense"} {
		if _, err := b.List(context.Background(), &executorv1.ListRequest{Cluster: b.cluster, PageToken: bookmark + "/a"}); code(err) != codes.OutOfRange {
			t.Errorf("list from %q: %v", bookmark, err)
		}
		stream, err := b.Watch(context.Background(), &executorv1.WatchRequest{Cluster: b.cluster, Bookmark: bookmark})
		if err == nil {
			_, err = stream.Recv()
		}
		if code(err) != codes.OutOfRange {
			t.Errorf("watch from %q: %v", bookmark, err)
		}
	}
}

func TestWhatHasNoTimeLeftIsNotBegun(t *testing.T) {
	b := newBed(t, nil)
	ctx, stop := context.WithTimeout(context.Background(), 900*time.Millisecond)
	defer stop()
	answer, err := b.Launch(ctx, &executorv1.LaunchRequest{Cluster: b.cluster, Specs: []*executorv1.LaunchSpec{b.spec("one", goodWorker)}})
	if err != nil || answer.Results[0].GetError().GetReason() != "BUSY" {
		t.Error(answer, err)
	}
	if b.has("m1", "one") || b.has("m2", "one") {
		t.Error("it was begun")
	}
}

func TestARecordThatIsNotReadableIsToldAndLeavesNothingOut(t *testing.T) {
	b := newBed(t, nil)
	on := b.launch("one")
	path := filepath.Join(b.fleet.StateDir, b.cluster, "one.json")
	b.on(on, "sh", "-c", "cp "+path+" /tmp/kept; echo nonsense >"+path)
	b.restart()
	_, err := b.List(context.Background(), &executorv1.ListRequest{Cluster: b.cluster})
	if code(err) != codes.Unavailable || !strings.Contains(err.Error(), path+" is not readable") {
		t.Error(err)
	}
	b.on(on, "mv", "/tmp/kept", path)
	b.restart()
	b.reach("one", registering)
}

func TestOnAFullDiskNothingIsBegun(t *testing.T) {
	b := newBed(t, func(of *fleet.Fleet) { of.Machines = of.Machines[:1] })
	directory := filepath.Join(b.fleet.StateDir, b.cluster)
	b.on("m1", "mkdir", "-p", directory)
	b.on("m1", "mount", "-t", "tmpfs", "-o", "size=4k,nr_inodes=1", "tmpfs", directory) // not one file more
	if _, failures := b.tryLaunch(b.spec("one", goodWorker)); failures[0].GetReason() != "UNAVAILABLE" || !strings.Contains(failures[0].Message, "machine m1") {
		t.Errorf("launched: %v", failures[0])
	}
	if len(b.list()) != 0 {
		t.Errorf("listed: %v", b.list())
	}
	b.on("m1", "umount", directory)
	b.launch("one")
}
