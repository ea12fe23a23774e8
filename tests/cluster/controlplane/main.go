// Controlplane is a Kubernetes control plane in one program, and simulated nodes for it. Its first argument says which part to be; every part
// ends with its standard input, so whoever holds the other end of that pipe takes all parts along, however it dies.
package main

import (
	"fmt"
	"io"
	"os"

	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	manager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	_ "sigs.k8s.io/scheduler-plugins/apis/config/scheme" // its arguments
	"sigs.k8s.io/scheduler-plugins/pkg/coscheduling"
)

var parts = map[string]func() int{
	"etcd":                    func() int { return said(runEtcd(os.Args[1:])) },
	"nodes":                   func() int { return said(runNodes(os.Args[1:])) },
	"kube-apiserver":          func() int { return cli.Run(apiserver.NewAPIServerCommand()) },
	"kube-controller-manager": func() int { return cli.Run(manager.NewControllerManagerCommand()) },
	"kube-scheduler": func() int {
		return cli.Run(scheduler.NewSchedulerCommand(scheduler.WithPlugin(pluginName, newPlugin), scheduler.WithPlugin(coscheduling.Name, coscheduling.New)))
	},
}

func main() {
	if len(os.Args) < 2 || parts[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: controlplane etcd|kube-apiserver|kube-scheduler|kube-controller-manager|nodes [flag...]")
		os.Exit(2)
	}
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	part := parts[os.Args[1]]
	os.Args = os.Args[1:]
	os.Exit(part())
}

func said(err error) int {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
