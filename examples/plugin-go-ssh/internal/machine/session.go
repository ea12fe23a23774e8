package machine

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"rayscaler.io/examples/plugin-go-ssh/internal/fleet"
)

const (
	dialTime   = 10 * time.Second
	startTime  = 30 * time.Second // from the log-in to the agent's first word, on a machine that is busy or reads Python from a slow disk
	lastMoment = 500 * time.Millisecond
	// What begins each line of the agent's; a login script may print others.
	mark     = "rayscaler-agent: "
	maxLine  = 16 << 20
	lastWord = 2000
	// The agent's text comes by stdin, before all orders, so that it is neither left on the machine nor bound by the length of a command.
	bootstrap = `import sys,os; n=int(sys.argv[1]); b=b""
while len(b)<n:
    d=os.read(0,n-len(b))
    if not d: sys.exit("cut off")
    b+=d
exec(compile(b,"agent.py","exec"))`
)

var errLost = errors.New("the session was lost")

// session is one SSH connection with a running agent.
type session struct {
	ticket  string
	timings Timings
	client  *ssh.Client
	remote  *ssh.Session
	out     *bufio.Reader
	errors  *tail

	writing sync.Mutex
	in      io.WriteCloser

	mu     sync.Mutex
	heard  time.Time
	number int
	calls  map[int]chan *message
	isLost bool
}

// dial logs in and starts the agent. The context's end closes all.
func dial(ctx context.Context, machine *fleet.Machine, timings Timings) (*session, error) {
	dialer := net.Dialer{Timeout: dialTime}
	line, err := dialer.DialContext(ctx, "tcp", machine.Address())
	if err != nil {
		return nil, err
	}
	_ = line.SetDeadline(time.Now().Add(dialTime)) // for the log-in, which has no context
	hangUp := context.AfterFunc(ctx, func() { _ = line.Close() })
	connection, channels, requests, err := ssh.NewClientConn(line, machine.Address(), machine.ClientConfig(dialTime))
	if err != nil {
		_ = line.Close()
		return nil, fmt.Errorf("log in as %s at %s: %w", machine.User, machine.Address(), err)
	}
	s := &session{timings: timings, client: ssh.NewClient(connection, channels, requests), errors: &tail{}, calls: map[int]chan *message{}}
	s.heard = time.Now().Add(startTime - timings.Silence)
	var ticket [16]byte
	_, _ = rand.Read(ticket[:]) // never fails
	s.ticket = hex.EncodeToString(ticket[:])
	if err := s.start(machine); err != nil {
		s.close()
		return nil, s.failure(err)
	}
	_ = line.SetDeadline(time.Time{})
	hangUp()
	context.AfterFunc(ctx, s.close)
	return s, nil
}

func (s *session) start(machine *fleet.Machine) error {
	remote, err := s.client.NewSession()
	if err != nil {
		return err
	}
	s.remote = remote
	remote.Stderr = s.errors
	if s.in, err = remote.StdinPipe(); err != nil {
		return err
	}
	out, err := remote.StdoutPipe()
	if err != nil {
		return err
	}
	s.out = bufio.NewReaderSize(out, 64<<10)
	command := fmt.Sprintf("exec %s -I -S -c %s %d", quoted(machine.Python), quoted(bootstrap), len(agent))
	if err := remote.Start(command); err != nil {
		return err
	}
	_, err = io.WriteString(s.in, agent)
	return err
}

// quoted is text as one word of a POSIX shell.
func quoted(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// begin sends the first order.
func (s *session) begin(order any) error { return s.send(order) }

// read hands on what the agent tells, in order, until the session ends; answers go to those who asked.
func (s *session) read(take func(*message)) error {
	defer s.lose()
	for {
		line, err := s.line()
		if err != nil {
			return err
		}
		text, isOurs := bytes.CutPrefix(line, []byte(mark))
		if !isOurs {
			continue
		}
		told := &message{}
		if err := json.Unmarshal(text, told); err != nil {
			return fmt.Errorf("the agent's line is not readable: %w", err)
		}
		s.mu.Lock()
		s.heard = time.Now()
		call := s.calls[told.Re]
		delete(s.calls, told.Re)
		s.mu.Unlock()
		take(told) // what an answer brings is known before whoever asked goes on
		if call != nil {
			call <- told
		}
	}
}

// line reads one, of bounded length.
func (s *session) line() ([]byte, error) {
	var whole []byte
	for {
		part, err := s.out.ReadSlice('\n')
		if whole = append(whole, part...); len(whole) > maxLine {
			return nil, fmt.Errorf("the agent wrote a line of more than %d bytes", maxLine)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return whole, err
		}
	}
}

// ask sends an order and waits for its answer.
func (s *session) ask(ctx context.Context, order *request) (*message, error) {
	within := s.timings.Answer
	if deadline, isSet := ctx.Deadline(); isSet { // who asked must have time left to be told
		within = min(within, time.Until(deadline)-lastMoment)
	}
	ctx, stop := context.WithTimeout(ctx, within)
	defer stop()
	answer := make(chan *message, 1)
	s.mu.Lock()
	if s.isLost {
		s.mu.Unlock()
		return nil, errLost
	}
	s.number++
	order.ID = s.number
	s.calls[order.ID] = answer
	s.mu.Unlock()
	if err := s.send(order); err != nil {
		return nil, err
	}
	select {
	case told, isOpen := <-answer:
		if !isOpen {
			return nil, errLost
		}
		return told, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (s *session) send(order any) error {
	text, err := json.Marshal(order)
	if err != nil {
		return err
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	_, err = s.in.Write(append(text, '\n'))
	return err
}

// ping keeps the agent from ending, and ends a session of which nothing is heard.
func (s *session) ping(ctx context.Context, tidy func()) {
	ticks := time.NewTicker(s.timings.Ping)
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
		}
		s.mu.Lock()
		isSilent := time.Since(s.heard) > s.timings.Silence
		s.mu.Unlock()
		if isSilent {
			s.errors.say(fmt.Sprintf("nothing was heard for %s", s.timings.Silence))
			s.close()
			return
		}
		tidy()
		go func() { _, _ = s.ask(ctx, &request{Do: "ping"}) }() // what comes back counts, whatever it is; a full pipe must not stop the look at the clock
	}
}

// lose tells everybody who waits for an answer that there will be none.
func (s *session) lose() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.isLost = true
	for _, call := range s.calls {
		close(call)
	}
	clear(s.calls)
}

func (s *session) close() { _ = s.client.Close() }

// failure says why a session ended, with what the agent or the shell said last.
func (s *session) failure(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		err = errLost
	}
	s.close()
	if said := s.errors.String(); said != "" {
		return fmt.Errorf("%w: %s", err, said)
	}
	return err
}

// tail keeps the last that was written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (t *tail) Write(data []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, data...)
	t.text = t.text[max(0, len(t.text)-lastWord):]
	return len(data), nil
}

func (t *tail) say(text string) { _, _ = t.Write([]byte(text)) }

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.text))
}
