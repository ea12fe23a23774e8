package main

import (
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// stated is what a container asks for, as its status has it once it runs; nil where it asks for nothing.
func stated(container v1.Container) *v1.ResourceRequirements {
	if len(container.Resources.Requests)+len(container.Resources.Limits) == 0 {
		return nil
	}
	return &v1.ResourceRequirements{Requests: container.Resources.Requests, Limits: container.Resources.Limits}
}

// resizing tells whether a container that runs is asked to have something else than it has.
func resizing(pod *v1.Pod) bool {
	for i, status := range pod.Status.ContainerStatuses {
		if i < len(pod.Spec.Containers) && status.State.Running != nil && !equality.Semantic.DeepEqual(stated(pod.Spec.Containers[i]), status.Resources) {
			return true
		}
	}
	return false
}

// resizeNow gives the containers what they ask for.
func resizeNow(l *life, now time.Time) {
	for i := range l.pod.Status.ContainerStatuses {
		l.pod.Status.ContainerStatuses[i].Resources = stated(l.pod.Spec.Containers[i])
	}
	for _, kind := range []v1.PodConditionType{v1.PodResizePending, v1.PodResizeInProgress} {
		if condition(&l.pod.Status, kind) == v1.ConditionTrue {
			setCondition(l, kind, v1.ConditionFalse, "", now)
		}
	}
}

// refuseResize says why the containers do not get what they ask for, in a kubelet's words.
func refuseResize(l *life, reason string, now time.Time) {
	kind := conditionOf(reason)
	setCondition(l, kind, v1.ConditionFalse, "", now) // whatever it said of an earlier wish
	setCondition(l, kind, v1.ConditionTrue, reason, now)
	for i := range l.pod.Status.Conditions {
		if each := &l.pod.Status.Conditions[i]; each.Type == kind {
			each.Message = "Node didn't have enough capacity: cpu, requested: 3000, capacity: 2000"
			each.ObservedGeneration, each.LastTransitionTime = l.pod.Generation, meta.NewTime(now)
		}
	}
}

// isTold tells whether it was said of the present wish that it does not come.
func isTold(pod *v1.Pod, reason string) bool {
	for _, each := range pod.Status.Conditions {
		if each.Type == conditionOf(reason) && each.Status == v1.ConditionTrue && each.ObservedGeneration == pod.Generation {
			return true
		}
	}
	return false
}

func conditionOf(reason string) v1.PodConditionType {
	if reason == v1.PodReasonError {
		return v1.PodResizeInProgress
	}
	return v1.PodResizePending
}
