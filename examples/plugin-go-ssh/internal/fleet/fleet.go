// Package fleet reads the file that lists the machines, and says everything that is wrong with it at once. It dials nothing.
package fleet

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	"golang.org/x/crypto/ssh"
)

const (
	defaultStateDir = "~/.rayscaler-ssh"
	// Ray drains a busy node for up to 30 s after SIGTERM, then ends its processes in up to 8 s.
	defaultGrace = 40 * time.Second
	// Longer than a machine takes to boot again.
	defaultForgetAfter = 15 * time.Minute
	defaultPort        = 22
)

var machineName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,61}[A-Za-z0-9])?$`)

// Fleet is what the file says, checked.
type Fleet struct {
	// StateDir holds the workers' records, on each machine.
	StateDir string `yaml:"stateDir"`
	// Grace is the time from SIGTERM to SIGKILL.
	Grace time.Duration `yaml:"grace"`
	// ForgetAfter is how long a machine may be out of reach before those of its workers whose end was asked for are told to be gone.
	ForgetAfter time.Duration `yaml:"forgetAfter"`
	Machines    []Machine     `yaml:"machines"`
}

// Machine is one machine; it can be reached by SSH, and has a Python beside whose `ray` is.
type Machine struct {
	Name    string `yaml:"name"`
	Host    string `yaml:"host"`
	Port    int    `yaml:"port"`
	User    string `yaml:"user"`
	KeyFile string `yaml:"keyFile"`
	HostKey string `yaml:"hostKey"`
	Python  string `yaml:"python"`
	// IP is where other Ray nodes reach this one; empty: Ray finds out.
	IP string `yaml:"ip"`
	// Workers is how many it can hold.
	Workers int `yaml:"workers"`
	// NodeTypes are those it can be; none named: any.
	NodeTypes []string `yaml:"nodeTypes"`

	signer  ssh.Signer
	hostKey ssh.PublicKey
}

// Address is where its sshd listens.
func (m *Machine) Address() string { return net.JoinHostPort(m.Host, fmt.Sprint(m.Port)) }

// CanBe says whether a worker of the node type may run there.
func (m *Machine) CanBe(nodeType string) bool {
	for _, each := range m.NodeTypes {
		if each == nodeType {
			return true
		}
	}
	return len(m.NodeTypes) == 0
}

// ClientConfig is how to log in. The host key is the file's or the connection ends: there is no way around it.
func (m *Machine) ClientConfig(timeout time.Duration) *ssh.ClientConfig {
	algorithms := []string{m.hostKey.Type()}
	if m.hostKey.Type() == ssh.KeyAlgoRSA { // one kind of key, two kinds of signature; SHA-1's is not among them
		algorithms = []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
	}
	return &ssh.ClientConfig{
		User:              m.User,
		Auth:              []ssh.AuthMethod{ssh.PublicKeys(m.signer)},
		HostKeyCallback:   ssh.FixedHostKey(m.hostKey),
		HostKeyAlgorithms: algorithms,
		Timeout:           timeout,
	}
}

// Read reads a fleet; the error names every problem with its place.
func Read(path string) (*Fleet, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	found := &Fleet{StateDir: defaultStateDir, Grace: defaultGrace, ForgetAfter: defaultForgetAfter}
	decoder := yaml.NewDecoder(file)
	decoder.KnownFields(true)
	if err := decoder.Decode(found); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if problems := found.check(filepath.Dir(path)); len(problems) > 0 {
		return nil, fmt.Errorf("%s:\n%w", path, errors.Join(problems...))
	}
	return found, nil
}

func (f *Fleet) check(directory string) []error {
	var problems []error
	say := func(format string, arguments ...any) {
		problems = append(problems, fmt.Errorf("  "+format, arguments...))
	}
	if len(f.Machines) == 0 {
		say("machines: none is listed")
	}
	if f.Grace <= 0 {
		say("grace: %s: must be above 0", f.Grace)
	}
	if f.ForgetAfter <= 0 {
		say("forgetAfter: %s: must be above 0", f.ForgetAfter)
	}
	names, places := map[string]bool{}, map[string]bool{}
	for index := range f.Machines {
		machine := &f.Machines[index]
		where := fmt.Sprintf("machines[%d]", index)
		if machine.Port == 0 {
			machine.Port = defaultPort
		}
		for _, problem := range machine.check(directory) {
			say("%s.%s", where, problem)
		}
		if names[machine.Name] {
			say("%s.name: %q: stands there twice", where, machine.Name)
		}
		if place := machine.User + "@" + machine.Address(); places[place] {
			say("%s.host: %s: is listed twice; one machine has one entry", where, place)
		} else {
			places[place] = true
		}
		names[machine.Name] = true
	}
	return problems
}

func (m *Machine) check(directory string) []string {
	var problems []string
	say := func(format string, arguments ...any) { problems = append(problems, fmt.Sprintf(format, arguments...)) }
	if !machineName.MatchString(m.Name) {
		say("name: %q: must be letters, digits, '-' and '.', 63 at most", m.Name)
	}
	for name, value := range map[string]string{"host": m.Host, "user": m.User, "keyFile": m.KeyFile, "hostKey": m.HostKey} {
		if value == "" {
			say("%s: is missing", name)
		}
	}
	if m.Port < 1 || m.Port > 65535 {
		say("port: %d: must be 1 to 65535", m.Port)
	}
	if !strings.HasPrefix(m.Python, "/") {
		say("python: %q: must be the whole path of the Python beside whose `ray` is", m.Python)
	}
	if m.IP != "" && net.ParseIP(m.IP) == nil {
		say("ip: %q: is no address", m.IP)
	}
	if m.Workers < 1 {
		say("workers: %d: must be 1 at least", m.Workers)
	}
	if m.HostKey != "" {
		if key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(m.HostKey)); err != nil {
			say("hostKey: must be a type and a key, as in /etc/ssh/ssh_host_ed25519_key.pub there")
		} else {
			m.hostKey = key
		}
	}
	if m.KeyFile != "" {
		signer, err := readKey(m.KeyFile, directory)
		if err != nil {
			say("keyFile: %v", err)
		}
		m.signer = signer
	}
	return problems
}

// readKey reads a private key; a relative path counts from where the fleet's file is.
func readKey(path, directory string) (ssh.Signer, error) {
	if rest, isHome := strings.CutPrefix(path, "~/"); isHome {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil, err
		}
		path = filepath.Join(home, rest)
	} else if !filepath.IsAbs(path) {
		path = filepath.Join(directory, path)
	}
	state, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if state.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s has mode %04o: others can read it; chmod 600", path, state.Mode().Perm())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	signer, err := ssh.ParsePrivateKey(text)
	var locked *ssh.PassphraseMissingError
	if errors.As(err, &locked) {
		return nil, fmt.Errorf("%s has a passphrase, which nobody is here to type; make a key for this purpose", path)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return signer, nil
}
