package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"sync"
	"time"

	coordination "k8s.io/api/coordination/v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	leaseS    = 40               // as a kubelet's
	heartbeat = 10 * time.Second // likewise
	inFlight  = 16               // more only makes the API server of a small machine slower
)

// kubelets plays the kubelets of all simulated nodes.
type kubelets struct {
	client kubernetes.Interface
	slots  chan struct{}
	mutex  sync.Mutex
	news   map[types.UID]chan *v1.Pod // where each pod's goroutine hears of changes; one slot, the newest wins
}

// runNodes registers nodes, keeps them alive and lets the pods bound to any node live as their annotations say.
func runNodes(args []string) error {
	flags := flag.NewFlagSet("nodes", flag.ExitOnError)
	kubeconfig := flags.String("kubeconfig", "", "how to reach the API server")
	count := flags.Int("count", 20, "how many nodes")
	flags.Parse(args)
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		return err
	}
	config.ContentType, config.QPS = "application/vnd.kubernetes.protobuf", -1
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	ctx := context.Background()
	k := &kubelets{client: client, slots: make(chan struct{}, inFlight), news: map[types.UID]chan *v1.Pod{}}
	if err := k.watch(ctx); err != nil {
		return err
	}
	var group sync.WaitGroup
	for i := range *count {
		group.Add(1)
		go k.beNode(ctx, fmt.Sprintf("sim-%d", i), fmt.Sprintf("zone-%d", i%2))
	}
	group.Wait() // nodes live until the program ends
	return nil
}

func (k *kubelets) watch(ctx context.Context) error {
	factory := informers.NewSharedInformerFactoryWithOptions(k.client, 0, informers.WithTweakListOptions(func(options *meta.ListOptions) {
		options.FieldSelector = fields.OneTermNotEqualSelector("spec.nodeName", "").String()
	}))
	informer := factory.Core().V1().Pods().Informer()
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(pod any) { k.tell(ctx, pod.(*v1.Pod)) },
		UpdateFunc: func(_, pod any) { k.tell(ctx, pod.(*v1.Pod)) },
		DeleteFunc: k.forget,
	})
	factory.Start(ctx.Done())
	return err
}

// tell passes a pod's newest state to its goroutine, which a new pod gets now.
func (k *kubelets) tell(ctx context.Context, pod *v1.Pod) {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	news, known := k.news[pod.UID]
	if !known {
		news = make(chan *v1.Pod, 1)
		k.news[pod.UID] = news
		go k.live(ctx, pod.DeepCopy(), news)
		return
	}
	select {
	case <-news:
	default:
	}
	news <- pod
}

func (k *kubelets) forget(gone any) {
	if unknown, ok := gone.(cache.DeletedFinalStateUnknown); ok {
		gone = unknown.Obj
	}
	uid := gone.(*v1.Pod).UID
	k.mutex.Lock()
	defer k.mutex.Unlock()
	close(k.news[uid])
	delete(k.news, uid)
}

// live takes a pod from step to step until it is gone.
func (k *kubelets) live(ctx context.Context, pod *v1.Pod, news <-chan *v1.Pod) {
	now := time.Now()
	l := &life{pod: pod, seen: now, started: now, noticed: now, pulling: now, crashed: now, deleted: now, resized: now}
	for {
		var due <-chan time.Time
		behaves, problem := parse(l.pod.Annotations)
		todo := next(l, behaves)
		if problem != nil && l.pod.DeletionTimestamp == nil && l.pod.Status.Phase != v1.PodFailed {
			todo = &step{now, func(l *life, now time.Time) { refuse(l, problem, now) }}
		}
		if todo != nil {
			due = time.After(time.Until(todo.at))
		}
		select {
		case newer, known := <-news:
			if !known {
				return
			}
			if newer.DeletionTimestamp != nil && l.pod.DeletionTimestamp == nil {
				l.deleted = time.Now()
			}
			if !equality.Semantic.DeepEqual(newer.Spec.Containers, l.pod.Spec.Containers) { // only their resources can change
				l.resized = time.Now()
				newer.Spec.DeepCopyInto(&l.pod.Spec)
			}
			newer.ObjectMeta.DeepCopyInto(&l.pod.ObjectMeta) // the status is ours
		case <-due:
			if !k.carryOut(ctx, l, todo) {
				for range news { // what is still said of it until it is gone
				}
				return
			}
		}
	}
}

// carryOut does a step and tells whether the pod lives on. A step that fails comes again.
func (k *kubelets) carryOut(ctx context.Context, l *life, todo *step) bool {
	k.slots <- struct{}{}
	defer func() { <-k.slots }()
	pods, before := k.client.CoreV1().Pods(l.pod.Namespace), l.pod.DeepCopy()
	if todo.change == nil {
		zero := int64(0)
		err := pods.Delete(ctx, l.pod.Name, meta.DeleteOptions{GracePeriodSeconds: &zero, Preconditions: meta.NewUIDPreconditions(string(l.pod.UID))})
		return k.isThere(l, err) && err != nil
	}
	todo.change(l, time.Now())
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": l.pod.UID}, "status": l.pod.Status})
	if err == nil {
		_, err = pods.Patch(ctx, l.pod.Name, types.StrategicMergePatchType, patch, meta.PatchOptions{}, "status")
	}
	if err != nil {
		l.pod = before
	}
	return k.isThere(l, err)
}

// isThere tells whether a pod may still be there after a request; one that failed is asked again a little later.
func (k *kubelets) isThere(l *life, err error) bool {
	if err == nil {
		return true
	}
	if apierrors.IsNotFound(err) {
		return false
	}
	log.Printf("pod %s/%s: %v", l.pod.Namespace, l.pod.Name, err)
	time.Sleep(time.Second)
	return true
}

// beNode registers a node and renews its lease for ever.
func (k *kubelets) beNode(ctx context.Context, name, zone string) {
	for {
		_, err := k.client.CoreV1().Nodes().Create(ctx, node(name, zone), meta.CreateOptions{})
		if err == nil || apierrors.IsAlreadyExists(err) {
			break
		}
		log.Printf("node %s: %v", name, err)
		time.Sleep(time.Second)
	}
	leases, duration := k.client.CoordinationV1().Leases(v1.NamespaceNodeLease), int32(leaseS)
	for {
		now := meta.NowMicro()
		spec := coordination.LeaseSpec{HolderIdentity: &name, LeaseDurationSeconds: &duration, RenewTime: &now}
		lease, err := leases.Get(ctx, name, meta.GetOptions{})
		if apierrors.IsNotFound(err) {
			_, err = leases.Create(ctx, &coordination.Lease{ObjectMeta: meta.ObjectMeta{Name: name}, Spec: spec}, meta.CreateOptions{})
		} else if err == nil {
			lease.Spec = spec
			_, err = leases.Update(ctx, lease, meta.UpdateOptions{})
		}
		if err != nil {
			log.Printf("lease of %s: %v", name, err)
		}
		time.Sleep(heartbeat)
	}
}

// node is as big as a test may need, whatever this machine has.
func node(name, zone string) *v1.Node {
	size := v1.ResourceList{
		v1.ResourceCPU: resource.MustParse("4000"), v1.ResourceMemory: resource.MustParse("16Ti"), v1.ResourcePods: resource.MustParse("10k"),
		v1.ResourceEphemeralStorage: resource.MustParse("100Ti"), "nvidia.com/gpu": resource.MustParse("1000"),
	}
	now := meta.Now()
	ready := v1.NodeCondition{Type: v1.NodeReady, Status: v1.ConditionTrue, Reason: "Simulated", LastHeartbeatTime: now, LastTransitionTime: now}
	return &v1.Node{
		ObjectMeta: meta.ObjectMeta{Name: name, Labels: map[string]string{
			v1.LabelHostname: name, v1.LabelOSStable: "linux", v1.LabelArchStable: "amd64", v1.LabelTopologyZone: zone, "type": "simulated",
		}},
		Status: v1.NodeStatus{
			Capacity: size, Allocatable: size, Conditions: []v1.NodeCondition{ready},
			Addresses: []v1.NodeAddress{{Type: v1.NodeInternalIP, Address: nodeIP}, {Type: v1.NodeHostName, Address: name}},
			NodeInfo:  v1.NodeSystemInfo{KubeletVersion: "v1.34.4", OperatingSystem: "linux", Architecture: "amd64"},
		},
	}
}
