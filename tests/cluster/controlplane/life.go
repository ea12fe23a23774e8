package main

import (
	"time"

	v1 "k8s.io/api/core/v1"
)

// life is what a kubelet remembers of a pod: the pod as it stands, and when things happened, finer than the seconds of a status.
type life struct {
	pod                                               *v1.Pod
	seen, started, noticed, pulling, crashed, deleted time.Time
	resized                                           time.Time // when other resources were asked for
}

// step is what happens next to a pod: a change of its status, or its removal where there is none.
type step struct {
	at     time.Time
	change func(l *life, now time.Time)
}

// next decides: nil when nothing more happens by itself.
func next(l *life, b behaviour) *step {
	switch status := &l.pod.Status; {
	case l.pod.DeletionTimestamp != nil:
		return nextOfDeleted(l, b)
	case status.Phase == v1.PodSucceeded || status.Phase == v1.PodFailed:
		return nil
	case status.Phase == v1.PodRunning:
		return nextOfRunning(l, b)
	default:
		return nextOfPending(l, b)
	}
}

func nextOfDeleted(l *life, b behaviour) *step {
	switch grace := graceOf(l.pod); {
	case b.ends == never:
		return nil
	case !isUp(&l.pod.Status):
		return &step{at: l.deleted}
	case b.ends > grace:
		return &step{l.deleted.Add(grace), func(l *life, now time.Time) { end(l, 137, now) }}
	default:
		return &step{l.deleted.Add(b.ends), func(l *life, now time.Time) { end(l, 0, now) }}
	}
}

func nextOfPending(l *life, b behaviour) *step {
	switch reason := waitingReason(&l.pod.Status); {
	case b.pullFails && reason == "ImagePullBackOff":
		return nil
	case b.pullFails && reason == "ErrImagePull":
		return &step{l.pulling.Add(time.Second), func(l *life, now time.Time) { wait(l, "ImagePullBackOff", now) }}
	case b.pullFails:
		return &step{l.seen, func(l *life, now time.Time) { l.pulling = now; wait(l, "ErrImagePull", now) }}
	case b.ready == never && reason != "":
		return nil
	case b.ready > 0 && reason == "":
		return &step{l.seen, func(l *life, now time.Time) { wait(l, "ContainerCreating", now) }}
	default:
		return &step{l.seen.Add(b.ready), func(l *life, now time.Time) { start(l, b.register == never, now) }}
	}
}

func nextOfRunning(l *life, b behaviour) *step {
	var first *step
	consider := func(from time.Time, after time.Duration, change func(*life, time.Time)) {
		if at := from.Add(after); after != never && (first == nil || at.Before(first.at)) {
			first = &step{at, change}
		}
	}
	if condition(&l.pod.Status, registered) != v1.ConditionTrue {
		consider(l.started, b.register, func(l *life, now time.Time) { setCondition(l, registered, v1.ConditionTrue, "", now) })
	}
	if condition(&l.pod.Status, v1.DisruptionTarget) != v1.ConditionTrue {
		consider(l.started, b.notice, func(l *life, now time.Time) { l.noticed = now; notice(l, now) })
	} else if b.notice != never {
		consider(l.noticed, b.grace, shutDown)
	}
	switch pending := resizing(l.pod); {
	case pending && b.unresized == "":
		consider(l.resized, b.resize, resizeNow)
	case pending && !isTold(l.pod, b.unresized):
		consider(l.resized, 0, func(l *life, now time.Time) { refuseResize(l, b.unresized, now) })
	case !pending && (condition(&l.pod.Status, v1.PodResizePending) == v1.ConditionTrue || condition(&l.pod.Status, v1.PodResizeInProgress) == v1.ConditionTrue):
		consider(l.resized, 0, resizeNow)
	}
	if waitingReason(&l.pod.Status) == "CrashLoopBackOff" {
		consider(l.crashed, backOff(l.pod), func(l *life, now time.Time) { start(l, b.register == never, now) })
	} else if l.pod.Status.ContainerStatuses[0].State.Running != nil {
		consider(l.started, b.exit, func(l *life, now time.Time) { l.crashed = now; exit(l, b.code, now) })
	}
	return first
}

// backOff is a kubelet's, with seconds in place of its tens of seconds.
func backOff(pod *v1.Pod) time.Duration {
	return min(time.Second<<min(pod.Status.ContainerStatuses[0].RestartCount-1, 5), 30*time.Second)
}

func graceOf(pod *v1.Pod) time.Duration {
	if pod.DeletionGracePeriodSeconds == nil {
		return 0
	}
	return time.Duration(*pod.DeletionGracePeriodSeconds) * time.Second
}
