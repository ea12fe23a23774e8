package executor

import (
	"path/filepath"
	"strings"
	"testing"

	"rayscaler.io/examples/plugin-go-ssh/internal/fleet"
)

func TestADeathFromOutsideIsToldAndLeavesNothing(t *testing.T) {
	b := newBed(t, nil)
	before := b.bookmark()
	on := b.launchAs(b.spec("one", stubbornWorker))
	b.reach("one", registering)
	b.on(on, "pkill", "-KILL", "-f", "supervisor-") // within the machine's own processes
	told := b.watch(before, "one", gone)
	if last := told[len(told)-1]; !strings.Contains(last.Error, "killed by signal 9") {
		t.Errorf("told: %v", last)
	}
	if len(b.list()) != 0 {
		t.Errorf("listed: %v", b.list())
	}
	if left := b.on(on, "pgrep", "-cf", "trap.*TERM"); left != "0" {
		t.Errorf("%s processes of it are left", left)
	}
}

func TestOneThatDoesNotEndIsKilledAndItsNeighbourStays(t *testing.T) {
	b := newBed(t, func(of *fleet.Fleet) { of.Machines = of.Machines[:1]; of.Machines[0].Workers = 2 })
	before := b.bookmark()
	on := b.launchAs(b.spec("stubborn", stubbornWorker))
	b.launch("neighbour")
	b.reach("stubborn", registering)
	b.reach("neighbour", registering)
	if err := b.terminate("stubborn"); err != nil {
		t.Fatal(err)
	}
	told := b.watch(before, "stubborn", gone)
	if last := told[len(told)-1]; !strings.Contains(last.Detail, "killed") {
		t.Errorf("told: %v", last)
	}
	if seen := b.list()["neighbour"]; seen.GetPhase() != registering {
		t.Errorf("its neighbour: %v", seen)
	}
	if left := b.on(on, "pgrep", "-cf", "trap.*TERM"); left != "0" {
		t.Errorf("%s processes of it are left", left)
	}
}

func TestAnEndGoesOnAfterARestart(t *testing.T) {
	b := newBed(t, nil)
	b.launchAs(b.spec("stubborn", stubbornWorker))
	b.reach("stubborn", registering)
	if err := b.terminate("stubborn"); err != nil {
		t.Fatal(err)
	}
	b.restart()
	if seen := b.list()["stubborn"]; seen != nil && seen.Phase != ending {
		t.Errorf("listed after the restart: %v", seen)
	}
	b.eventually("it is gone", func() bool { return len(b.list()) == 0 })
}

func TestAnotherProcessWithItsNumberIsLeftAlone(t *testing.T) {
	b := newBed(t, nil)
	on := b.launch("one")
	b.reach("one", registering)
	b.end()
	pid := b.on(on, "sh", "-c", "setsid sleep 601 >/dev/null 2>&1 & echo $!")
	rewrite := `import json, sys; path, pid = sys.argv[1:]; record = json.load(open(path)); old = record["pid"]
record["pid"] = int(pid); json.dump(record, open(path, "w")); print(old)`
	old := b.on(on, "python3", "-c", rewrite, filepath.Join(b.fleet.StateDir, b.cluster, "one.json"), pid)
	before := b.on(on, "cat", "/proc/"+pid+"/comm")
	b.on(on, "kill", "-KILL", old)
	b.start()
	b.eventually("the record's worker is gone", func() bool { return len(b.list()) == 0 })
	if err := b.terminate("one"); err != nil {
		t.Error(err)
	}
	if after := b.on(on, "cat", "/proc/"+pid+"/comm"); before != "sleep" || after != "sleep" {
		t.Errorf("the other process with its number was %q and is %q", before, after)
	}
	b.on(on, "kill", pid)
}

func TestAWorkerBegunButNotNotedDownIsFound(t *testing.T) {
	b := newBed(t, nil)
	on := b.launch("one")
	b.reach("one", registering)
	b.end()
	rewrite := `import json, sys; path = sys.argv[1]; record = json.load(open(path)); record["pid"] = None; json.dump(record, open(path, "w"))`
	b.on(on, "python3", "-c", rewrite, filepath.Join(b.fleet.StateDir, b.cluster, "one.json"))
	b.start()
	b.reach("one", registering)
}
