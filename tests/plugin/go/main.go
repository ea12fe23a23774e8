// A plugin as others write it: the real go-plugin serves an executor whose instances are entries of a map. The tests' host starts it.
//
// FAKE_APP_VERSION, FAKE_NETRPC and FAKE_COOKIE make it one that was built for another host; FAKE_GIANT makes its lists large, FAKE_KILLED
// names a directory of instances to die, SIGUSR1 makes it print. FAKE_CERT and FAKE_KEY make it serve at an address over TLS, which it prints,
// and ask callers for a certificate without asking whose it is.
package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/rpc"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers what giant is made of
	"google.golang.org/grpc/mem"

	executorv1 "rayscaler.io/api/executor/v1"
)

// served is the executor as go-plugin wants it.
type served struct {
	plugin.NetRPCUnsupportedPlugin
	executor *executor
}

func (s *served) GRPCServer(_ *plugin.GRPCBroker, server *grpc.Server) error {
	executorv1.RegisterExecutorServiceServer(server, s.executor)
	return nil
}

func (s *served) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, fmt.Errorf("this program is no host")
}

// old speaks net/rpc only, as plugins did before gRPC.
type old struct{}

func (old) Server(*plugin.MuxBroker) (any, error)              { return struct{}{}, nil }
func (old) Client(*plugin.MuxBroker, *rpc.Client) (any, error) { return nil, nil }

// giant makes a gibibyte of every list.
type giant struct{ encoding.CodecV2 }

func (g giant) Marshal(v any) (mem.BufferSlice, error) {
	if _, ok := v.(*executorv1.ListResponse); !ok {
		return g.CodecV2.Marshal(v)
	}
	piece := mem.SliceBuffer(make([]byte, 1<<20))
	made := make(mem.BufferSlice, 1<<10)
	for i := range made {
		made[i] = piece
	}
	return made, nil
}

// serveAnybody serves whoever shows any certificate: an easy mistake, for RequireAnyClientCert sounds like more than it is.
func serveAnybody(executor *executor, cert, key string) error {
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	config := &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAnyClientCert}
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(config)))
	executorv1.RegisterExecutorServiceServer(server, executor)
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	return server.Serve(listener)
}

func main() {
	log := hclog.New(&hclog.LoggerOptions{Name: "fake", Level: hclog.Debug, Output: os.Stderr, JSONFormat: true})
	version := uint(1)
	if text := os.Getenv("FAKE_APP_VERSION"); text != "" {
		parsed, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			log.Error("FAKE_APP_VERSION is no number", "error", err)
			os.Exit(1)
		}
		version = uint(parsed)
	}
	if cert := os.Getenv("FAKE_CERT"); cert != "" {
		if err := serveAnybody(newExecutor(log, ""), cert, os.Getenv("FAKE_KEY")); err != nil {
			log.Error("cannot serve", "error", err)
			os.Exit(1)
		}
		return
	}
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGUSR1)
	go func() {
		for range asked {
			log.Info("still here")
		}
	}()
	config := &plugin.ServeConfig{
		HandshakeConfig: plugin.HandshakeConfig{ProtocolVersion: version, MagicCookieKey: "RAYSCALER_PLUGIN", MagicCookieValue: "executor.v1"},
		Plugins:         plugin.PluginSet{"executor": &served{executor: newExecutor(log, os.Getenv("FAKE_KILLED"))}},
		GRPCServer:      plugin.DefaultGRPCServer,
		Logger:          log,
	}
	if os.Getenv("FAKE_GIANT") != "" {
		config.GRPCServer = func(options []grpc.ServerOption) *grpc.Server {
			return grpc.NewServer(append(options, grpc.ForceServerCodecV2(giant{encoding.GetCodecV2("proto")}))...)
		}
	}
	if os.Getenv("FAKE_NETRPC") != "" {
		config.Plugins = plugin.PluginSet{"executor": old{}}
		config.GRPCServer = nil
	}
	if cookie := os.Getenv("FAKE_COOKIE"); cookie != "" {
		config.MagicCookieValue = cookie
	}
	plugin.Serve(config)
}
