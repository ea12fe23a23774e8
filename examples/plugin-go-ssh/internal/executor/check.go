package executor

import (
	"fmt"
	"net"
	"slices"
	"strings"

	executorv1 "rayscaler.io/api/executor/v1"
)

func checkLaunch(request *executorv1.LaunchRequest) []*executorv1.Problem {
	ids := make([]string, len(request.Specs))
	for index, spec := range request.Specs {
		ids[index] = spec.InstanceId
	}
	problems := checkCall(request.Cluster, "specs", ids)
	if request.Cluster != "" && !isName(request.Cluster) {
		problems = append(problems, &executorv1.Problem{Path: "cluster", Value: request.Cluster, Rule: nameRule})
	}
	return problems
}

func checkTerminate(request *executorv1.TerminateRequest) []*executorv1.Problem {
	return checkCall(request.Cluster, "instance_ids", request.InstanceIds)
}

func checkCall(cluster, path string, ids []string) []*executorv1.Problem {
	var problems []*executorv1.Problem
	if cluster == "" {
		problems = append(problems, &executorv1.Problem{Path: "cluster", Rule: "is missing"})
	}
	if len(ids) == 0 {
		problems = append(problems, &executorv1.Problem{Path: path, Rule: "at least one"})
	}
	seen := map[string]bool{}
	for _, id := range ids {
		if seen[id] {
			problems = append(problems, &executorv1.Problem{Path: path, Value: id, Rule: "each once"})
		}
		seen[id] = true
	}
	return problems
}

func checkSpec(spec *executorv1.LaunchSpec) []*executorv1.Problem {
	var problems []*executorv1.Problem
	say := func(path, value, rule string) {
		problems = append(problems, &executorv1.Problem{Path: path, Value: value, Rule: rule})
	}
	if !isName(spec.InstanceId) {
		say("instance_id", spec.InstanceId, nameRule)
	}
	if spec.NodeType.GetName() == "" {
		say("node_type.name", "", "is missing")
	}
	for resource, amount := range spec.NodeType.GetResources() {
		if amount <= 0 {
			say("node_type.resources."+resource, fmt.Sprint(amount), "must be above 0")
		}
	}
	if _, port, err := net.SplitHostPort(spec.HeadAddress); err != nil || port == "" {
		say("head_address", spec.HeadAddress, "must be host:port")
	}
	if len(spec.RayStart.GetArgv()) == 0 {
		say("ray_start.argv", "", "is missing")
	}
	if spec.ReplicaId != "" && (spec.ReplicaHost < 0 || spec.ReplicaHost >= spec.ReplicaSize) {
		say("replica_host", fmt.Sprint(spec.ReplicaHost), fmt.Sprintf("must be from 0 to %d", spec.ReplicaSize-1))
	}
	return problems
}

const nameRule = "must be letters, digits, '-', '_' and '.', not begin with '.', 128 at most"

func isName(text string) bool {
	if text == "" || len(text) > 128 || text[0] == '.' {
		return false
	}
	return strings.IndexFunc(text, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_.", r))
	}) < 0
}

func text(problems []*executorv1.Problem) string {
	lines := make([]string, len(problems))
	for index, each := range problems {
		lines[index] = strings.Join(slices.DeleteFunc([]string{each.Path, each.Value, each.Rule}, func(part string) bool { return part == "" }), ": ")
	}
	return strings.Join(lines, "; ")
}
