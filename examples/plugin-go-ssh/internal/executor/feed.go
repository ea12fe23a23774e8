package executor

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"sync"

	executorv1 "rayscaler.io/api/executor/v1"
)

// remembered is how many changes can be told again; whoever missed more lists again.
const remembered = 10_000

type change struct {
	number      int64
	cluster     string
	observation *executorv1.Observation
}

// feed remembers changes in their order. A bookmark is the number of one, with a word that another life of this process does not have.
type feed struct {
	life string

	mu      sync.Mutex
	last    int64
	changes []change
	grown   chan struct{}
}

func newFeed() *feed {
	var life [8]byte
	_, _ = rand.Read(life[:]) // never fails
	return &feed{life: hex.EncodeToString(life[:]), grown: make(chan struct{})}
}

func (f *feed) tell(cluster string, observation *executorv1.Observation) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last++
	f.changes = append(f.changes, change{f.last, cluster, observation})
	if len(f.changes) > 2*remembered { // copied once in so many changes
		f.changes = append([]change(nil), f.changes[len(f.changes)-remembered:]...)
	}
	close(f.grown)
	f.grown = make(chan struct{})
}

func (f *feed) bookmark(number int64) string { return fmt.Sprintf("%s-%d", f.life, number) }

func (f *feed) now() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last
}

// place reads a bookmark; it is an error if changes since then are not remembered.
func (f *feed) place(bookmark string) (int64, error) {
	life, text, _ := strings.Cut(bookmark, "-")
	number, err := strconv.ParseInt(text, 10, 64)
	if err != nil || number < 0 {
		return 0, fmt.Errorf("bookmark: %q: is none of this plugin's", bookmark)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if life != f.life || number > f.last {
		return 0, fmt.Errorf("bookmark: %q: is from another life of this plugin; list again", bookmark)
	}
	if number < f.last-int64(len(f.changes)) {
		return 0, fmt.Errorf("bookmark: %q: is too old; list again", bookmark)
	}
	return number, nil
}

// after returns the changes of a cluster after a place, the place after them, and what is closed when there are more.
func (f *feed) after(place int64, cluster string) ([]change, int64, <-chan struct{}, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	first := f.last - int64(len(f.changes))
	if place < first {
		return nil, 0, nil, fmt.Errorf("the watch fell behind by more than %d changes; list again", remembered)
	}
	var found []change
	for _, each := range f.changes[place-first:] {
		if each.cluster == cluster {
			found = append(found, each)
		}
	}
	return found, f.last, f.grown, nil
}
