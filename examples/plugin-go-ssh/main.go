// Command plugin-go-ssh is an executor for rayscaler: a fixed fleet of machines, reached by SSH. rayscaler starts it; README.md says how.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	executorv1 "rayscaler.io/api/executor/v1"

	"rayscaler.io/examples/plugin-go-ssh/internal/executor"
	"rayscaler.io/examples/plugin-go-ssh/internal/fleet"
	"rayscaler.io/examples/plugin-go-ssh/internal/machine"
)

// What rayscaler's hosts say, and what is served: the package executor.v1.
var handshake = plugin.HandshakeConfig{ProtocolVersion: 1, MagicCookieKey: "RAYSCALER_PLUGIN", MagicCookieValue: "executor.v1"}

// served is the executor as go-plugin wants it.
type served struct {
	plugin.NetRPCUnsupportedPlugin
	executor *executor.Executor
}

func (s *served) GRPCServer(_ *plugin.GRPCBroker, server *grpc.Server) error {
	executorv1.RegisterExecutorServiceServer(server, s.executor)
	return nil
}

func (*served) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, errors.New("this program is no host")
}

func main() {
	path := flag.String("fleet", "fleet.yaml", "the `file` that lists the machines")
	isCheck := flag.Bool("check", false, "say what is wrong with the file, and end")
	flag.Parse()
	of, err := fleet.Read(*path)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	if *isCheck {
		fmt.Printf("%s: %d machines\n", *path, len(of.Machines))
		return
	}
	service := executor.New(of, machine.Usual, slog.New(slog.NewJSONHandler(os.Stderr, nil)))
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		service.Run(ctx)
	}()
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: handshake,
		Plugins:         plugin.PluginSet{"executor": &served{executor: service}},
		GRPCServer:      plugin.DefaultGRPCServer,
		Logger:          hclog.New(&hclog.LoggerOptions{Name: "go-plugin", Level: hclog.Info, Output: os.Stderr, JSONFormat: true}),
	})
	stop() // the workers live on
	<-ended
}
