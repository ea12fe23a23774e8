package main

import (
	"flag"
	"fmt"
	"net/url"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
)

// runEtcd serves one member that does not wait for the disk: what is lost with the machine was only a test.
func runEtcd(args []string) error {
	flags := flag.NewFlagSet("etcd", flag.ExitOnError)
	directory := flags.String("data-dir", "", "where the data go")
	client := flags.String("client-url", "", "where clients are served")
	peer := flags.String("peer-url", "", "where peers would be served")
	flags.Parse(args)

	config := embed.NewConfig()
	config.Dir = *directory
	clients, err := url.Parse(*client)
	if err != nil {
		return err
	}
	peers, err := url.Parse(*peer)
	if err != nil {
		return err
	}
	config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{*clients}, []url.URL{*clients}
	config.ListenPeerUrls, config.AdvertisePeerUrls = []url.URL{*peers}, []url.URL{*peers}
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	config.UnsafeNoFsync = true
	config.QuotaBackendBytes = 4 << 30
	config.LogLevel = "warn"
	member, err := embed.StartEtcd(config)
	if err != nil {
		return err
	}
	select {
	case <-member.Server.ReadyNotify():
	case <-time.After(30 * time.Second):
		return fmt.Errorf("etcd: not ready after 30 s")
	}
	return <-member.Err()
}
