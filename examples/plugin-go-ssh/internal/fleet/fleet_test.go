package fleet

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// write makes a directory with a key and a fleet of `text` in it, where KEY stands for a host key.
func write(t *testing.T, text string) string {
	t.Helper()
	directory := t.TempDir()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	locked, err := ssh.MarshalPrivateKeyWithPassphrase(private, "", []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"key": plain, "open": plain, "locked": locked} {
		if err := os.WriteFile(filepath.Join(directory, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(directory, "open"), 0o644); err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(directory, "fleet.yaml")
	text = strings.ReplaceAll(text, "KEY", strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))))
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAFleetIsReadWithItsDefaultsAndAnchors(t *testing.T) {
	found, err := Read(write(t, `
forgetAfter: 1h
machines:
- &common {name: a, host: 192.0.2.1, user: ray, keyFile: key, hostKey: KEY, python: /opt/ray/bin/python3, workers: 2}
- {<<: *common, name: b, host: 192.0.2.2, port: 2222, nodeTypes: [gpu], workers: 1}
`))
	if err != nil {
		t.Fatal(err)
	}
	if found.StateDir != "~/.rayscaler-ssh" || found.Grace != 40*time.Second || found.ForgetAfter != time.Hour {
		t.Errorf("%+v", found)
	}
	a, b := &found.Machines[0], &found.Machines[1]
	if a.Address() != "192.0.2.1:22" || b.Address() != "192.0.2.2:2222" || b.User != "ray" || b.Workers != 1 {
		t.Errorf("%+v", found.Machines)
	}
	if !a.CanBe("gpu") || !a.CanBe("cpu") || !b.CanBe("gpu") || b.CanBe("cpu") {
		t.Error("node types")
	}
}

func TestTheExampleOfAFleetIsRight(t *testing.T) {
	text, err := os.ReadFile("../../fleet.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	for index, line := range lines { // keys of ours in place of those that nobody has
		if before, _, has := strings.Cut(line, "hostKey: "); has {
			lines[index] = before + "hostKey: KEY"
		} else if before, _, has := strings.Cut(line, "keyFile: "); has {
			lines[index] = before + "keyFile: key"
		}
	}
	if _, err := Read(write(t, strings.Join(lines, "\n"))); err != nil {
		t.Error(err)
	}
}

func TestEveryProblemIsToldWithItsPlace(t *testing.T) {
	_, err := Read(write(t, `
grace: 0s
machines:
- {name: a b, host: "", user: ray, keyFile: open, hostKey: ssh-ed25519 nonsense, python: python3, workers: 0, port: 70000, ip: here}
- {name: c, host: h, user: ray, keyFile: locked, hostKey: KEY, python: /usr/bin/python3, workers: 1}
- {name: c, host: h, user: ray, keyFile: none, hostKey: KEY, python: /usr/bin/python3, workers: 1}
`))
	if err == nil {
		t.Fatal("no problem was found")
	}
	for _, each := range []string{
		"grace:", "machines[0].name:", "machines[0].host: is missing", "mode 0644", "machines[0].hostKey:", "machines[0].python:",
		"machines[0].workers:", "machines[0].port:", "machines[0].ip:", "machines[1].keyFile: ", "has a passphrase", "machines[2].keyFile:",
		`machines[2].name: "c": stands there twice`, "machines[2].host: ray@h:22: is listed twice",
	} {
		if !strings.Contains(err.Error(), each) {
			t.Errorf("not told: %s\nin: %v", each, err)
		}
	}
}

func TestAMisspelledFieldIsRefused(t *testing.T) {
	_, err := Read(write(t, "machines:\n- {name: a, hostkey: KEY}\n"))
	if err == nil || !strings.Contains(err.Error(), "hostkey") {
		t.Error(err)
	}
}

func TestAnRSAHostKeyIsNeverProvenWithSHA1(t *testing.T) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(&private.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
	found, err := Read(write(t, "machines: [{name: a, host: h, user: ray, keyFile: key, hostKey: "+text+", python: /usr/bin/python3, workers: 1}]"))
	if err != nil {
		t.Fatal(err)
	}
	if got := found.Machines[0].ClientConfig(time.Second).HostKeyAlgorithms; !slices.Equal(got, []string{"rsa-sha2-512", "rsa-sha2-256"}) {
		t.Error(got)
	}
}
