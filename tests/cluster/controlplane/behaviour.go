package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
)

// The annotations of a pod that say how it behaves. Durations are Go's ("1.5s"); without any, a pod is ready at once, stays, and ends at once
// when deleted. They may be changed while the pod runs: what is due by then happens at once.
const (
	prefix         = "sim.rayscaler.io/"
	unschedulable  = prefix + "unschedulable"   // "true": the scheduler finds no node for it, ever
	imagePull      = prefix + "image-pull"      // "fail": ErrImagePull, then ImagePullBackOff, until the annotation goes
	readyAfter     = prefix + "ready-after"     // from being bound to being ready
	exitAfter      = prefix + "exit-after"      // from a start of the containers to the end of the first; restartPolicy decides what follows
	exitCode       = prefix + "exit-code"       // of that container; 1 by default
	registersAfter = prefix + "registers-after" // from the start to the condition sim.rayscaler.io/Registered: when a fake head may see its node
	spotNotice     = prefix + "spot-notice"     // from the start to the condition DisruptionTarget
	spotGrace      = prefix + "spot-grace"      // from the notice to the pod's failure as in a node's shutdown; 2m by default
	resizeAfter    = prefix + "resize-after"    // from another wish for resources to having them; "never": kubelet says nothing, for ever
	resize         = prefix + "resize"          // "infeasible", "deferred", "error": it does not come, and a condition says so
	endsAfter      = prefix + "ends-after"      // from SIGTERM to the containers' end, at most the grace period; "never": stuck in Terminating
)

type behaviour struct {
	pullFails                                  bool
	ready, exit, register, notice, grace, ends time.Duration // never where it does not happen
	resize                                     time.Duration
	unresized                                  string // the reason of the condition that says so; "" where it comes
	code                                       int32
}

// resizeReasons are those that a kubelet gives for not resizing a pod, by the annotation's words.
var resizeReasons = map[string]string{"infeasible": v1.PodReasonInfeasible, "deferred": v1.PodReasonDeferred, "error": v1.PodReasonError}

const never = time.Duration(1<<63 - 1)

// parse reads a pod's annotations; the error names every one that cannot be understood.
func parse(annotations map[string]string) (behaviour, error) {
	b := behaviour{exit: never, register: never, notice: never, grace: 2 * time.Minute, resize: 200 * time.Millisecond, code: 1}
	durations := map[string]*time.Duration{
		readyAfter: &b.ready, exitAfter: &b.exit, registersAfter: &b.register, spotNotice: &b.notice, spotGrace: &b.grace, endsAfter: &b.ends,
		resizeAfter: &b.resize,
	}
	var problems []string
	for name, value := range annotations {
		if !strings.HasPrefix(name, prefix) {
			continue
		}
		var err error
		switch target := durations[name]; {
		case target != nil && value == "never":
			*target = never
		case target != nil:
			*target, err = time.ParseDuration(value)
		case name == exitCode:
			var code int64
			code, err = strconv.ParseInt(value, 10, 32)
			b.code = int32(code)
		case name == imagePull && value == "fail":
			b.pullFails = true
		case name == unschedulable && value == "true":
		case name == resize && resizeReasons[value] != "":
			b.unresized = resizeReasons[value]
		default:
			err = fmt.Errorf("%q is not known", value)
		}
		if err != nil {
			problems = append(problems, fmt.Sprintf("%s: %v", name, err))
		}
	}
	if problems != nil {
		return b, fmt.Errorf("%s", strings.Join(problems, "; "))
	}
	return b, nil
}
