package main

import (
	"context"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework"
)

const pluginName = "Simulation"

// plugin refuses every node to a pod that says it is never scheduled: the scheduler itself then says so, in its own words.
type plugin struct{}

func newPlugin(context.Context, runtime.Object, framework.Handle) (framework.Plugin, error) {
	return plugin{}, nil
}

func (plugin) Name() string { return pluginName }

func (plugin) Filter(_ context.Context, _ fwk.CycleState, pod *v1.Pod, _ fwk.NodeInfo) *fwk.Status {
	if pod.Annotations[unschedulable] == "true" {
		return fwk.NewStatus(fwk.UnschedulableAndUnresolvable, "node(s) refused by the pod's own annotation "+unschedulable)
	}
	return nil
}

// EventsToRegister keeps refused pods from being tried again at every change of the cluster.
func (plugin) EventsToRegister(context.Context) ([]fwk.ClusterEventWithHint, error) {
	return []fwk.ClusterEventWithHint{{Event: fwk.ClusterEvent{Resource: fwk.Node, ActionType: fwk.Add}}}, nil
}
