// puller ADDRESS REF: pulls an image from a plain http registry on this host as nerdctl does it for a snapshotter that
// reads lazily: the snapshotter "nydus" is told of each layer before its content is fetched.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/snapshotters"
)

func pull(address, ref string) error {
	ctx, cancel := context.WithTimeout(namespaces.WithNamespace(context.Background(), "default"), time.Minute)
	defer cancel()
	connected, err := client.New(address)
	if err != nil {
		return err
	}
	defer connected.Close()
	hosts := docker.ConfigureDefaultRegistries(docker.WithPlainHTTP(docker.MatchLocalhost))
	_, err = connected.Pull(ctx, ref,
		client.WithPullUnpack,
		client.WithPullSnapshotter("nydus"),
		client.WithImageHandlerWrapper(snapshotters.AppendInfoHandlerWrapper(ref)),
		client.WithResolver(docker.NewResolver(docker.ResolverOptions{Hosts: hosts})))
	return err
}

func main() {
	if err := pull(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "puller:", err)
		os.Exit(1)
	}
}
