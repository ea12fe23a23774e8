package machine

import (
	"encoding/json"
	"fmt"
)

// Key names an instance.
type Key struct {
	Cluster, InstanceID string
}

// View is how an instance stands, as the agent on its machine tells it.
type View struct {
	Cluster    string          `json:"cluster"`
	InstanceID string          `json:"instance_id"`
	Spec       json.RawMessage `json:"spec"`
	Phase      string          `json:"phase"`
	Detail     string          `json:"detail"`
	Error      string          `json:"error"`
}

// Phases of a view, as the protocol names them without its prefix.
const (
	Starting    = "STARTING"
	Registering = "REGISTERING"
	Ending      = "ENDING"
	Gone        = "GONE"
)

var rank = map[string]int{Starting: 1, Registering: 2, Ending: 3, Gone: 4}

// Key names what is viewed.
func (v *View) Key() Key { return Key{v.Cluster, v.InstanceID} }

// Order is a worker to start. Spec is for whoever asks later; the agent only keeps it.
type Order struct {
	Cluster      string            `json:"cluster"`
	InstanceID   string            `json:"instance_id"`
	Spec         json.RawMessage   `json:"spec"`
	HeadAddress  string            `json:"head_address"`
	Argv         []string          `json:"argv"`
	Env          map[string]string `json:"env"`
	NotInherited []string          `json:"not_inherited"`
	Supervisor   string            `json:"supervisor"`
}

// Refusal is an agent's no: nothing was done.
type Refusal struct {
	Word, Why string
}

func (r *Refusal) Error() string { return fmt.Sprintf("%s: %s", r.Word, r.Why) }

// Unreachable says that a machine does not answer.
type Unreachable struct {
	Machine, Why string
}

func (u *Unreachable) Error() string { return fmt.Sprintf("machine %s: %s", u.Machine, u.Why) }

// request and message are the two directions of a session, a line of JSON each.
type request struct {
	*Order
	ID         int    `json:"id"`
	Do         string `json:"do"`
	Slots      int    `json:"slots,omitempty"`
	Cluster    string `json:"cluster,omitempty"`
	InstanceID string `json:"instance_id,omitempty"`
}

type message struct {
	Re  int      `json:"re"`
	No  string   `json:"no"`
	Why string   `json:"why"`
	One *View    `json:"one"`
	All *[]*View `json:"all"`
}
