// Package machine keeps one long-lived session with each machine and the agent (agent.py) at its other end. It knows nothing of gRPC, and not which
// machine a worker should run on.
package machine

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"sync"
	"time"

	"rayscaler.io/examples/plugin-go-ssh/internal/fleet"
)

const (
	firstPause = time.Second
	longPause  = 30 * time.Second
	// A session that was up for so long starts the row of pauses anew.
	goodSession = time.Minute
)

// Timings are how long what may take; tests have shorter ones.
type Timings struct {
	// Ping is between two orders that only ask for a word.
	Ping time.Duration
	// Silence is how long a session may be without a word: a machine that has gone away sends nothing at all.
	Silence time.Duration
	// Answer is for an order to be carried out; a start takes milliseconds, on a slow disk a second.
	Answer time.Duration
	// Doubt is for whoever asked for a start whose outcome was not known to ask again; then it is ended.
	Doubt time.Duration
}

// Usual are the timings outside tests.
var Usual = Timings{Ping: 5 * time.Second, Silence: 15 * time.Second, Answer: 10 * time.Second, Doubt: time.Minute}

//go:embed agent.py
var agent string

// Status is what is known of a machine at one moment.
type Status struct {
	Machine *fleet.Machine
	// IsSeen: it has told its workers once at least; what follows is the latest.
	IsSeen, IsConnected bool
	// Views are its workers by their keys; whoever asks must not change them.
	Views map[Key]*View
	// Since is when it was last heard of, Why the reason that it is out of reach.
	Since time.Time
	Why   string
}

// Link is one machine. Run keeps it up; all else may be called at any time from anywhere.
type Link struct {
	machine *fleet.Machine
	fleet   *fleet.Fleet
	timings Timings
	tell    func(*View)
	log     *slog.Logger

	mu       sync.Mutex
	isSeen   bool
	session  *session // nil: out of reach
	since    time.Time
	why      string
	views    map[Key]*View
	starting map[Key]int
	// doubts are starts that were ordered and are not answered. Once whoever asked was told so (the time; zero before), what is there is told to nobody
	// until it is asked for again, and ended if it is not.
	doubts    map[Key]time.Time
	ends      map[Key]bool // asked for, and not begun yet as far as is known: its machine was out of reach
	givenUp   map[Key]bool // told to be gone while its machine was out of reach; nothing is told of it any more
	hasTried  chan struct{}
	triedOnce sync.Once
}

// New makes a link; `tell` is called with each change in its order, and must not block or call back.
func New(machine *fleet.Machine, of *fleet.Fleet, timings Timings, log *slog.Logger, tell func(*View)) *Link {
	return &Link{
		machine: machine, fleet: of, timings: timings, tell: tell, log: log.With("machine", machine.Name), since: time.Now(), why: "not reached yet",
		views: map[Key]*View{}, starting: map[Key]int{}, doubts: map[Key]time.Time{}, ends: map[Key]bool{}, givenUp: map[Key]bool{}, hasTried: make(chan struct{}),
	}
}

// Run keeps a session until the context ends.
func (l *Link) Run(ctx context.Context) {
	pause := firstPause
	for ctx.Err() == nil {
		began := time.Now()
		err := l.hold(ctx)
		l.triedOnce.Do(func() { close(l.hasTried) })
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > goodSession {
			pause = firstPause
		}
		l.Status()                      // gives up what is due
		wait := pause/2 + rand.N(pause) // not all at once
		l.log.Warn("out of reach", "why", err, "again_in_s", wait.Seconds())
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		pause = min(2*pause, longPause)
	}
}

// HasTried is closed once the machine was tried to be reached for the first time, or has been.
func (l *Link) HasTried() <-chan struct{} { return l.hasTried }

// Status tells what is known now.
func (l *Link) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forget()
	return Status{l.machine, l.isSeen, l.session != nil, maps.Clone(l.views), l.since, l.why}
}

// IsInDoubt says whether an instance may have been started there without our knowing.
func (l *Link) IsInDoubt(key Key) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, isDoubted := l.doubts[key]
	return !l.isSeen || isDoubted
}

// Launch starts a worker, or returns the one that is there under its key. Errors: Refusal, Unreachable.
func (l *Link) Launch(ctx context.Context, order *Order) (*View, error) {
	key := Key{order.Cluster, order.InstanceID}
	l.mu.Lock()
	to := l.session
	if to != nil {
		l.starting[key]++
		l.doubts[key] = time.Time{}
	}
	l.mu.Unlock()
	if to == nil {
		return nil, l.unreachable()
	}
	answer, err := to.ask(ctx, &request{Order: order, Do: "launch", Slots: l.machine.Workers, Cluster: order.Cluster, InstanceID: order.InstanceID})
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.starting[key]--; l.starting[key] == 0 {
		delete(l.starting, key)
	}
	if err == nil && l.session != to {
		err = errors.New("another session has begun meanwhile")
	}
	if err != nil {
		if _, isDoubted := l.doubts[key]; isDoubted && l.starting[key] == 0 {
			l.doubts[key] = time.Now()
		}
		return nil, &Unreachable{l.machine.Name, fmt.Sprintf("whether it was started is not known: %v", err)}
	}
	delete(l.doubts, key)
	if answer.No != "" {
		return nil, &Refusal{answer.No, answer.Why}
	}
	l.see(answer.One) // once more: it was hidden if it had been in doubt
	return answer.One, nil
}

// End begins the end of a worker; on a machine out of reach it is begun once that is back.
func (l *Link) End(ctx context.Context, key Key) error {
	l.mu.Lock()
	to, view := l.session, l.views[key]
	_, isDoubted := l.doubts[key]
	if to == nil && view != nil {
		l.ends[key] = true
		l.show(&View{key.Cluster, key.InstanceID, view.Spec, Ending, "is ended once its machine is back", ""})
	}
	l.mu.Unlock()
	switch {
	case to == nil && (isDoubted || !l.isSeen):
		return l.unreachable()
	case to == nil || view == nil && !isDoubted:
		return nil
	}
	answer, err := to.ask(ctx, &request{Do: "end", Cluster: key.Cluster, InstanceID: key.InstanceID})
	if err != nil {
		return &Unreachable{l.machine.Name, fmt.Sprintf("whether its end has begun is not known: %v", err)}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.views[key] != nil && answer.One != nil { // or a List right after this might tell it as it was; what is gone meanwhile stays so
		l.see(answer.One)
	}
	return nil
}

// hold makes a session and follows it to its end.
func (l *Link) hold(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	to, err := dial(ctx, l.machine, l.timings)
	if err != nil {
		l.mu.Lock()
		l.why = err.Error()
		l.mu.Unlock()
		return err
	}
	defer to.close()
	begin := map[string]any{"state_dir": l.fleet.StateDir, "grace_s": l.fleet.Grace.Seconds(), "ticket": to.ticket}
	if err := to.begin(begin); err != nil {
		return to.failure(err)
	}
	go to.ping(ctx, func() { l.tidy(ctx, to) })
	err = to.read(func(told *message) {
		switch {
		case told.All != nil:
			l.connected(ctx, to, *told.All)
		case told.One != nil:
			l.mu.Lock()
			l.see(told.One)
			l.mu.Unlock()
		}
	})
	err = to.failure(err)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.session == to {
		l.session, l.since = nil, time.Now()
	}
	l.why = err.Error()
	return err
}

// connected takes a whole view: what is not in it is gone, or was never started, for no earlier session can act from now on.
func (l *Link) connected(ctx context.Context, to *session, all []*View) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.log.Info("connected", "workers", len(all), "after_s", time.Since(l.since).Seconds())
	found := map[Key]bool{}
	for _, view := range all {
		found[view.Key()] = true
		l.see(view)
	}
	for key, view := range l.views {
		if !found[key] {
			gone := *view
			gone.Phase, gone.Detail = Gone, "ended while its machine was out of reach"
			if view.Phase != Ending {
				gone.Error = gone.Detail + " for " + time.Since(l.since).Round(time.Second).String()
			}
			l.see(&gone)
		}
	}
	maps.DeleteFunc(l.doubts, func(key Key, _ time.Time) bool { return !found[key] })
	maps.DeleteFunc(l.givenUp, func(key Key, _ bool) bool { return !found[key] })
	maps.DeleteFunc(l.ends, func(key Key, _ bool) bool { return !found[key] })
	for key := range l.ends {
		go l.endLater(ctx, to, key)
	}
	l.session, l.isSeen, l.why = to, true, ""
	l.triedOnce.Do(func() { close(l.hasTried) })
}

// endLater orders an end that nobody waits for. If this session is lost too, the next one orders it again.
func (l *Link) endLater(ctx context.Context, to *session, key Key) {
	_, _ = to.ask(ctx, &request{Do: "end", Cluster: key.Cluster, InstanceID: key.InstanceID})
}

// see takes what an agent tells of a worker.
func (l *Link) see(view *View) {
	key := view.Key()
	if view.Phase == Ending || view.Phase == Gone {
		delete(l.ends, key)
	}
	if told, isDoubted := l.doubts[key]; !l.givenUp[key] && (!isDoubted || told.IsZero()) {
		l.show(view)
	}
	if view.Phase == Gone {
		delete(l.givenUp, key)
		delete(l.doubts, key)
	}
}

// show notes how a worker stands and passes it on, if it is news. A phase never goes back.
func (l *Link) show(view *View) {
	key := view.Key()
	known := l.views[key]
	if known != nil && (rank[view.Phase] < rank[known.Phase] || known.Phase == view.Phase && known.Detail == view.Detail) {
		return
	}
	if view.Phase == Gone {
		delete(l.views, key)
	} else {
		l.views[key] = view
	}
	l.tell(view)
}

// tidy ends what was started in doubt and never asked for again.
func (l *Link) tidy(ctx context.Context, to *session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, told := range l.doubts {
		if !told.IsZero() && time.Since(told) > l.timings.Doubt && !l.ends[key] {
			l.ends[key] = true
			go l.endLater(ctx, to, key)
		}
	}
}

// forget tells those to be gone whose end was asked for, on a machine that was out of reach for too long; their end stays due.
func (l *Link) forget() {
	if l.session != nil || time.Since(l.since) < l.fleet.ForgetAfter {
		return
	}
	for key, view := range l.views {
		if view.Phase == Ending {
			gone := *view
			gone.Phase, gone.Detail = Gone, "given up: its machine is out of reach: "+l.why
			l.givenUp[key] = true
			l.show(&gone)
		}
	}
}

func (l *Link) unreachable() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	why := l.why
	if why == "" {
		why = "does not answer"
	}
	return &Unreachable{l.machine.Name, why}
}
