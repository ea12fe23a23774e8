package main

import (
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	v1 "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	nodeIP                         = "10.0.0.1"
	registered v1.PodConditionType = prefix + "Registered"
)

var addresses atomic.Uint32

// wait says that the containers wait for a reason, none of them started.
func wait(l *life, reason string, now time.Time) {
	bound(l, now)
	l.pod.Status.ContainerStatuses = waiting(l.pod.Spec.Containers, reason)
	l.pod.Status.InitContainerStatuses = waiting(l.pod.Spec.InitContainers, reason)
	setReady(l, v1.ConditionFalse, now)
}

// start says that all containers run and the pod is ready; a restart keeps the count of the container that ended.
func start(l *life, joined bool, now time.Time) {
	bound(l, now)
	l.started = now
	status := &l.pod.Status
	status.Phase = v1.PodRunning
	status.InitContainerStatuses = started(l.pod.Spec.InitContainers, status.InitContainerStatuses, now)
	status.ContainerStatuses = started(l.pod.Spec.Containers, status.ContainerStatuses, now)
	if !joined {
		setCondition(l, registered, v1.ConditionFalse, "", now)
	}
	setReady(l, v1.ConditionTrue, now)
}

// exit ends the first container: with the pod or, where restartPolicy says so, until it is started again.
func exit(l *life, code int32, now time.Time) {
	policy := l.pod.Spec.RestartPolicy
	if policy == v1.RestartPolicyNever || policy == v1.RestartPolicyOnFailure && code == 0 {
		end(l, code, now)
		return
	}
	first := &l.pod.Status.ContainerStatuses[0]
	first.LastTerminationState = v1.ContainerState{Terminated: terminated(first, code, now)}
	first.State = v1.ContainerState{Waiting: &v1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: "back-off restarting failed container"}}
	first.RestartCount++
	first.Ready, first.Started = false, new(bool)
	setReady(l, v1.ConditionFalse, now)
}

// end says that nothing runs any more: the first container ended with a code, the others were stopped for it.
func end(l *life, code int32, now time.Time) {
	status := &l.pod.Status
	status.Phase = v1.PodSucceeded
	if code != 0 {
		status.Phase = v1.PodFailed
	}
	for _, statuses := range [][]v1.ContainerStatus{status.ContainerStatuses, status.InitContainerStatuses} {
		for i := range statuses {
			if statuses[i].State.Terminated == nil {
				statuses[i].State = v1.ContainerState{Terminated: terminated(&statuses[i], code, now)}
				statuses[i].Ready, statuses[i].Started = false, new(bool)
			}
		}
	}
	setReady(l, v1.ConditionFalse, now)
}

const shutDownMessage = "Pod was terminated in response to imminent node shutdown."

func notice(l *life, now time.Time) {
	setCondition(l, v1.DisruptionTarget, v1.ConditionTrue, "TerminationByKubelet", now)
}

func shutDown(l *life, now time.Time) {
	end(l, 137, now)
	l.pod.Status.Reason, l.pod.Status.Message = "Terminated", shutDownMessage
}

// refuse fails a pod whose annotations cannot be understood, and says why where a person looks first.
func refuse(l *life, problem error, now time.Time) {
	l.pod.Status.Phase = v1.PodFailed
	l.pod.Status.Reason, l.pod.Status.Message = "BadSimulation", problem.Error()
	setReady(l, v1.ConditionFalse, now)
}

func bound(l *life, now time.Time) {
	status := &l.pod.Status
	if status.StartTime != nil {
		return
	}
	at, number := meta.NewTime(now), addresses.Add(1)
	status.StartTime = &at
	status.HostIP, status.HostIPs = nodeIP, []v1.HostIP{{IP: nodeIP}}
	status.PodIP = fmt.Sprintf("10.%d.%d.%d", 64+number>>16, number>>8&255, number&255)
	status.PodIPs = []v1.PodIP{{IP: status.PodIP}}
	setCondition(l, v1.PodInitialized, v1.ConditionTrue, "", now)
}

func waiting(containers []v1.Container, reason string) []v1.ContainerStatus {
	var statuses []v1.ContainerStatus
	for _, container := range containers {
		message := ""
		if reason == "ErrImagePull" || reason == "ImagePullBackOff" {
			message = fmt.Sprintf("failed to pull image %q: not found", container.Image)
		}
		state := v1.ContainerState{Waiting: &v1.ContainerStateWaiting{Reason: reason, Message: message}}
		statuses = append(statuses, v1.ContainerStatus{Name: container.Name, Image: container.Image, State: state, Started: new(bool)})
	}
	return statuses
}

func started(containers []v1.Container, before []v1.ContainerStatus, now time.Time) []v1.ContainerStatus {
	at, yes := meta.NewTime(now), true
	var statuses []v1.ContainerStatus
	for i, container := range containers {
		status := v1.ContainerStatus{
			Name: container.Name, Image: container.Image, ImageID: "simulated", ContainerID: fmt.Sprintf("simulated://%d", addresses.Add(1)),
			Ready: true, Started: &yes, State: v1.ContainerState{Running: &v1.ContainerStateRunning{StartedAt: at}},
		}
		if i < len(before) && before[i].State.Running != nil {
			status = before[i]
		} else if i < len(before) {
			status.RestartCount, status.LastTerminationState = before[i].RestartCount, before[i].LastTerminationState
		}
		status.Resources = stated(container)
		statuses = append(statuses, status)
	}
	return statuses
}

func terminated(status *v1.ContainerStatus, code int32, now time.Time) *v1.ContainerStateTerminated {
	reason := "Completed"
	if code != 0 {
		reason = "Error"
	}
	ended := &v1.ContainerStateTerminated{ExitCode: code, Reason: reason, FinishedAt: meta.NewTime(now), ContainerID: status.ContainerID}
	if status.State.Running != nil {
		ended.StartedAt = status.State.Running.StartedAt
	}
	return ended
}

func setReady(l *life, value v1.ConditionStatus, now time.Time) {
	reason := ""
	if value == v1.ConditionFalse {
		reason = map[bool]string{true: "ContainersNotReady", false: "PodCompleted"}[l.pod.Status.Phase != v1.PodSucceeded]
	}
	setCondition(l, v1.ContainersReady, value, reason, now)
	setCondition(l, v1.PodReady, value, reason, now)
}

func setCondition(l *life, kind v1.PodConditionType, value v1.ConditionStatus, reason string, now time.Time) {
	conditions := &l.pod.Status.Conditions
	at := slices.IndexFunc(*conditions, func(c v1.PodCondition) bool { return c.Type == kind })
	if at < 0 {
		*conditions = append(*conditions, v1.PodCondition{Type: kind})
		at = len(*conditions) - 1
	}
	if condition := &(*conditions)[at]; condition.Status != value {
		*condition = v1.PodCondition{Type: kind, Status: value, Reason: reason, LastTransitionTime: meta.NewTime(now)}
		if kind == v1.DisruptionTarget {
			condition.Message = shutDownMessage
		}
	}
}

func condition(status *v1.PodStatus, kind v1.PodConditionType) v1.ConditionStatus {
	for _, each := range status.Conditions {
		if each.Type == kind {
			return each.Status
		}
	}
	return v1.ConditionUnknown
}

func waitingReason(status *v1.PodStatus) string {
	if len(status.ContainerStatuses) == 0 || status.ContainerStatuses[0].State.Waiting == nil {
		return ""
	}
	return status.ContainerStatuses[0].State.Waiting.Reason
}

// isUp tells whether any container runs, so that there is something to stop.
func isUp(status *v1.PodStatus) bool {
	return slices.ContainsFunc(status.ContainerStatuses, func(c v1.ContainerStatus) bool { return c.State.Running != nil })
}
