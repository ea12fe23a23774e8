package executor

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	executorv1 "rayscaler.io/api/executor/v1"

	"rayscaler.io/examples/plugin-go-ssh/internal/fleet"
)

func TestAMachineWithAnotherHostKeyIsNeverLoggedInto(t *testing.T) {
	b := newBed(t, func(of *fleet.Fleet) {
		text, err := os.ReadFile(filepath.Join(os.Getenv("TESTBED"), "fleet.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "fleet.yaml")
		keys := strings.Split(string(text), "hostKey: ")
		first, second := strings.SplitN(keys[1], "\n", 2), strings.SplitN(keys[2], "\n", 2)
		swapped := keys[0] + "hostKey: " + second[0] + "\n" + first[1] + "hostKey: " + second[0] + "\n" + second[1]
		swapped = strings.ReplaceAll(swapped, "keyFile: key", "keyFile: "+filepath.Join(os.Getenv("TESTBED"), "key"))
		if err := os.WriteFile(path, []byte(swapped), 0o600); err != nil {
			t.Fatal(err)
		}
		wrong, err := fleet.Read(path)
		if err != nil {
			t.Fatal(err)
		}
		of.Machines[0] = wrong.Machines[0]
	})
	_, err := b.List(context.Background(), &executorv1.ListRequest{Cluster: b.cluster})
	if code(err) != codes.Unavailable || !strings.Contains(err.Error(), "host key mismatch") || !strings.Contains(err.Error(), "machine m1") {
		t.Errorf("list with a machine of unknown state: %v", err)
	}
	_, failures := b.tryLaunch(b.spec("one", goodWorker))
	if failures[0].GetReason() != "UNAVAILABLE" {
		t.Errorf("a launch that may have been done already: %v", failures[0])
	}
	b.end() // the rest of the test's end needs the machine
	b.fleet.Machines = b.fleet.Machines[1:]
	b.start()
}

func TestAMachineWithoutPowerLosesItsWorkersOnceItIsBack(t *testing.T) {
	b := newBed(t, nil)
	before := b.bookmark()
	on := b.launch("one")
	b.reach("one", registering)
	b.bench("stop", on)
	b.eventually("it is told as last seen", func() bool { return strings.Contains(b.list()["one"].GetDetail(), "as last seen") })
	if there := b.launch("two"); there == on {
		t.Errorf("launched on %s, which has no power", there)
	}
	_, failures := b.tryLaunch(b.spec("three", goodWorker))
	if failures[0].GetReason() != "INSUFFICIENT_CAPACITY" || !strings.Contains(failures[0].Message, "machine "+on+", out of reach") {
		t.Errorf("with one machine taken and one off: %v", failures[0])
	}
	b.bench("start", on)
	told := b.watch(before, "one", gone)
	if told[len(told)-1].Error == "" {
		t.Errorf("told: %v", told[len(told)-1])
	}
	b.launch("three")
}

func TestACutMachineIsToldAsLastSeenAndEndedWhenItIsBack(t *testing.T) {
	b := newBed(t, nil)
	before := b.bookmark()
	on := b.launch("one")
	b.reach("one", registering)
	b.bench("cut", on)
	b.eventually("it is told as last seen", func() bool {
		seen := b.list()["one"]
		return seen.GetPhase() == registering && strings.Contains(seen.GetDetail(), "as last seen")
	})
	if err := b.terminate("one"); err != nil {
		t.Fatal(err)
	}
	if seen := b.list()["one"]; seen.GetPhase() != ending {
		t.Errorf("after its end was asked for: %v", seen)
	}
	if left := b.on(on, "pgrep", "-cf", "[r]untime started"); left == "0" {
		t.Error("it cannot have ended yet")
	}
	b.bench("mend", on)
	b.watch(before, "one", gone)
}

func TestWhatIsGivenUpIsNeverToldAgainAndStillEnds(t *testing.T) {
	b := newBed(t, func(of *fleet.Fleet) { of.ForgetAfter = time.Second })
	before := b.bookmark()
	on := b.launch("one")
	b.reach("one", registering)
	b.bench("cut", on)
	b.eventually("it is told as last seen", func() bool { return strings.Contains(b.list()["one"].GetDetail(), "as last seen") })
	if err := b.terminate("one"); err != nil {
		t.Fatal(err)
	}
	told := b.watch(before, "one", gone)
	if last := told[len(told)-1]; !strings.Contains(last.Detail, "given up") {
		t.Errorf("told: %v", last)
	}
	after := b.bookmark()
	b.bench("mend", on)
	b.eventually("it has ended", func() bool { return b.on(on, "pgrep", "-cf", "[r]untime started") == "0" })
	b.eventually("its slot is free", func() bool {
		_, failures := b.tryLaunch(b.spec("two", goodWorker), b.spec("three", goodWorker))
		return failures[0] == nil && failures[1] == nil
	})
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	stream, err := b.Watch(ctx, &executorv1.WatchRequest{Cluster: b.cluster, Bookmark: after})
	if err != nil {
		t.Fatal(err)
	}
	for seen := map[string]bool{}; !seen["two"] || !seen["three"]; {
		answer, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		seen[answer.Observation.GetInstanceId()] = true
		if seen["one"] {
			t.Fatalf("told after it was gone: %v", answer.Observation)
		}
	}
}

// doubted launches one whose machine does not answer in time, and lets it answer then.
func (b *bed) doubted(id string) string {
	b.Helper()
	agents := map[string]string{}
	for _, each := range b.fleet.Machines {
		agents[each.Name] = b.on(each.Name, "pgrep", "-of", "[i]mport sys,os")
		b.on(each.Name, "kill", "-STOP", agents[each.Name])
	}
	_, failures := b.tryLaunch(b.spec(id, goodWorker))
	if failures[0].GetReason() != "UNAVAILABLE" {
		b.Fatalf("of a machine that does not answer: %v", failures[0])
	}
	on, _, _ := strings.Cut(strings.TrimPrefix(failures[0].Message, "machine "), ":")
	for name, agent := range agents {
		b.on(name, "kill", "-CONT", agent)
	}
	b.eventually("it was started after all", func() bool { return b.has(on, id) })
	if seen := b.list()[id]; seen != nil {
		b.Errorf("listed although its launch failed: %v", seen)
	}
	return on
}

// has says whether a machine has an instance's record.
func (b *bed) has(machine, id string) bool {
	return b.on(machine, "sh", "-c", "test -e "+filepath.Join(b.fleet.StateDir, b.cluster, id+".json")+" && echo yes") == "yes"
}

func TestALaunchInDoubtIsTriedAgainOnTheSameMachineOnly(t *testing.T) {
	b := newBed(t, func(of *fleet.Fleet) { of.Machines[0].Workers, of.Machines[1].Workers = 2, 2 })
	if on := b.launch("first"); on != "m1" {
		t.Fatalf("the first of all runs on %s", on)
	}
	if on := b.doubted("one"); on != "m2" {
		t.Fatalf("the one in doubt was begun on %s", on)
	}
	b.launch("other") // as far as is known, m1 has as much room as m2 now, and comes first
	if on := b.launch("one"); on != "m2" {
		t.Errorf("begun on m2, then on %s", on)
	}
	if b.has("m1", "one") || len(b.list()) != 3 {
		t.Errorf("listed: %v", b.list())
	}
}

func TestALaunchInDoubtThatNobodyAsksForAgainIsEnded(t *testing.T) {
	b := newBed(t, nil)
	on := b.doubted("one")
	b.eventually("it is ended", func() bool { return !b.has(on, "one") })
}
