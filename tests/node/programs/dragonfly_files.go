// Reads one file that `nydus-agent dragonfly render` made as its real consumer reads it, and prints what came of it as
// JSON: kind's own decoder and checks, and a strict decode into Kubernetes' own type of a Service. Status 1 with the
// consumer's words where it refuses the file.
//
// usage: dragonfly-files kind|service FILE
package main

import (
	"encoding/json"
	"fmt"
	"os"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/kind/pkg/internal/apis/config/encoding"
	"sigs.k8s.io/yaml"
)

func decoded(what, path string) (any, error) {
	if what == "kind" {
		cluster, err := encoding.Load(path)
		if err != nil {
			return nil, err
		}
		if cluster.Name == "" {
			cluster.Name = "kind" // as `kind create cluster` does before it checks
		}
		return cluster, cluster.Validate()
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	service := &corev1.Service{}
	return service, yaml.UnmarshalStrict(raw, service)
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: dragonfly-files kind|service FILE")
		os.Exit(2)
	}
	what, err := decoded(os.Args[1], os.Args[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if err := json.NewEncoder(os.Stdout).Encode(what); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
