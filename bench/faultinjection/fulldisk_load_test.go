package faultinjection_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stayafrica/messaging/bench/program"
)

// fullUsers is how many users have queues. One more user, the last, never reads.
const fullUsers = 8

// outcome is what is known about a sent message.
type outcome struct {
	status int       // of the response; 0 for none
	began  time.Time // when it was sent
	ended  time.Time // when the response arrived
	read   bool      // its receiver got it
	stored int       // how often the backend got it
}

// fullDiskLedger records outside of the service what the service acknowledged, and
// finds losses.
type fullDiskLedger struct {
	mu       sync.Mutex
	messages map[string]*outcome // by the first word of the text
}

func (l *fullDiskLedger) note(name string, change func(o *outcome)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	o := l.messages[name]
	if o == nil {
		o = new(outcome)
		l.messages[name] = o
	}
	change(o)
}

func (l *fullDiskLedger) each(f func(name string, o *outcome)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, o := range l.messages {
		f(name, o)
	}
}

func (l *fullDiskLedger) count(which func(o *outcome) bool) (n int) {
	l.each(func(_ string, o *outcome) {
		if which(o) {
			n++
		}
	})
	return n
}

// lost returns the messages that were acknowledged but did not reach their receiver or
// the backend, and the messages that were refused but are present.
func (l *fullDiskLedger) lost() (lost, refusedButPresent []string) {
	l.each(func(name string, o *outcome) {
		switch {
		case o.status == http.StatusOK && (!o.read || o.stored == 0):
			lost = append(lost, fmt.Sprintf("%s (read %t, to the backend %d times)", name, o.read, o.stored))
		case o.status == http.StatusInsufficientStorage && (o.read || o.stored > 0):
			refusedButPresent = append(refusedButPresent, name)
		}
	})
	return lost, refusedButPresent
}

// fullSink is a backend that accepts everything and records it in the ledger.
func fullSink(ledger *fullDiskLedger) (url string, stop func(), err error) {
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body struct{ Messages []fullMessage }
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		for _, m := range body.Messages {
			ledger.note(m.name(), func(o *outcome) { o.stored++ })
		}
		fmt.Fprintf(w, `{"persisted":%d}`, len(body.Messages))
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	return "http://" + l.Addr().String(), func() { _ = server.Close(); <-done }, nil
}

type fullMessage struct{ Text, Receipt string }

func (m fullMessage) name() string {
	name, _, _ := bytes.Cut([]byte(m.Text), []byte(" "))
	return string(name)
}

// fullClient is an HTTP client of the service.
type fullClient struct {
	url    string
	ledger *fullDiskLedger
	http   *http.Client
	prefix string // distinguishes the messages of consecutive processes
	number atomic.Int64
}

func newFullClient(url, prefix string, ledger *fullDiskLedger) *fullClient {
	return &fullClient{
		url: url, prefix: prefix, ledger: ledger,
		http: &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 32}},
	}
}

// call returns status 0 if there was no response.
func (c *fullClient) call(method, path, body string) (int, []byte) {
	request, err := http.NewRequest(method, c.url+path, bytes.NewReader([]byte(body)))
	if err != nil {
		return 0, nil
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := c.http.Do(request)
	if err != nil {
		return 0, nil
	}
	defer response.Body.Close()
	responseBody, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, nil
	}
	return response.StatusCode, responseBody
}

// send sends one message to a user and records the outcome.
func (c *fullClient) send(user, size int, padding []byte) int {
	name := c.prefix + strconv.FormatInt(c.number.Add(1), 10)
	o := outcome{began: time.Now()}
	o.status, _ = c.call(http.MethodPost, "/api/messages/send",
		fmt.Sprintf(`{"conversation_id":%d,"sender_id":1,"receiver_id":%d,"text":"%s %s"}`, user, user, name, padding[:size]))
	o.ended = time.Now()
	c.ledger.note(name, func(known *outcome) { known.status, known.began, known.ended = o.status, o.began, o.ended })
	return o.status
}

// batch sends several long messages to a user in one call and records the outcomes.
func (c *fullClient) batch(user, size int, text []byte) int {
	names, messages := make([]string, size), make([]string, size)
	for i := range names {
		names[i] = c.prefix + strconv.FormatInt(c.number.Add(1), 10)
		messages[i] = fmt.Sprintf(`{"conversation_id":%d,"sender_id":1,"receiver_id":%d,"text":"%s %s"}`, user, user, names[i], text)
	}
	status, _ := c.call(http.MethodPost, "/api/messages/batch", `{"messages":[`+strings.Join(messages, ",")+`]}`)
	for _, name := range names {
		c.ledger.note(name, func(o *outcome) { o.status = status })
	}
	return status
}

// padding returns incompressible text.
func padding(seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	text := make([]byte, 64<<10-64)
	for i := range text {
		text[i] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[r.IntN(64)]
	}
	return text
}

// load sends from that many goroutines until stop, which joins them.
func (c *fullClient) load(senders, size int, seed uint64) (stop func()) {
	var stopped atomic.Bool
	var sending sync.WaitGroup
	for n := range senders {
		sending.Go(func() {
			text := padding(seed + uint64(n))
			r := rand.New(rand.NewPCG(seed, uint64(n)))
			for !stopped.Load() {
				at := r.IntN(len(text) - size + 1)
				if status := c.send(r.IntN(fullUsers+1), size, text[at:]); status != http.StatusOK {
					time.Sleep(2 * time.Millisecond)
				}
			}
		})
	}
	return func() { stopped.Store(true); sending.Wait() }
}

var errTake = errors.New("a take failed")

// take takes messages of a user, permanently or under a lease that it acknowledges. It
// returns how many.
func (c *fullClient) take(user, limit int, lease bool) (int, error) {
	path := fmt.Sprintf("/api/messages/queue/%d?max_count=%d", user, limit)
	if lease {
		path += "&lease=60"
	}
	status, responseBody := c.call(http.MethodGet, path, "")
	var page struct{ Messages []fullMessage }
	if status != http.StatusOK || json.Unmarshal(responseBody, &page) != nil {
		return 0, fmt.Errorf("%w: %d %.200s", errTake, status, responseBody)
	}
	if lease && len(page.Messages) > 0 {
		receipts := make([]string, len(page.Messages))
		for i := range page.Messages {
			receipts[i] = page.Messages[i].Receipt
		}
		if err := c.ackOrNack("ack", "acked", user, receipts); err != nil {
			return 0, err
		}
	}
	for _, m := range page.Messages {
		c.ledger.note(m.name(), func(o *outcome) { o.read = true })
	}
	return len(page.Messages), nil
}

// nack takes one message under a lease and nacks it.
func (c *fullClient) nack(user int) error {
	status, responseBody := c.call(http.MethodGet, fmt.Sprintf("/api/messages/queue/%d?max_count=1&lease=10", user), "")
	var page struct{ Messages []fullMessage }
	if status != http.StatusOK || json.Unmarshal(responseBody, &page) != nil {
		return fmt.Errorf("%w: %d %.200s", errTake, status, responseBody)
	}
	if len(page.Messages) == 0 {
		return nil
	}
	return c.ackOrNack("nack", "nacked", user, []string{page.Messages[0].Receipt})
}

func (c *fullClient) ackOrNack(verb, want string, user int, receipts []string) error {
	body, err := json.Marshal(map[string]any{"user_id": user, "receipts": receipts})
	if err != nil {
		return err
	}
	status, responseBody := c.call(http.MethodPost, "/api/messages/"+verb, string(body))
	if n := bytes.Count(responseBody, []byte(`"`+want+`"`)); status != http.StatusOK || n != len(receipts) {
		return fmt.Errorf("%w: %s: %d, %d of %d: %.200s", errTake, verb, status, n, len(receipts), responseBody)
	}
	return nil
}

// takeAll empties the queues of users.
func (c *fullClient) takeAll(users int) error {
	for user := range users {
		for n := 1; n > 0; {
			var err error
			if n, err = c.take(user, 100, user%2 == 0); err != nil {
				return err
			}
		}
	}
	return nil
}

// releaseLeases waits until the leases end whose responses were lost.
func (w *fullDiskHarness) releaseLeases() {
	w.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		_, responseBody := w.client.call(http.MethodGet, "/metrics", "")
		if strings.Contains(string(responseBody), "messaging_leases 0\n") {
			return
		}
	}
	w.Error("the leases do not end")
}

// keepFull fills the space that the store frees meanwhile, except for a remainder,
// because the ballast may be used up. It also returns that remainder if an earlier fill
// has taken the space of the ballast: a store without any space cannot work.
func (w *fullDiskHarness) keepFull() {
	for began := time.Now(); time.Since(began) < 3*refusedWithin; time.Sleep(5 * time.Millisecond) {
		w.disk.fill(fullMinFree / 2)
	}
	if _, err := os.Stat(filepath.Join(w.disk.dir, "data", "reserve")); errors.Is(err, fs.ErrNotExist) {
		w.disk.giveBack(fullMinFree/2 - w.disk.free())
	}
}

// reportsFull reports whether the service knows that its disk is full, and returns its
// readiness response.
func (w *fullDiskHarness) reportsFull() (full bool, responseBody string) {
	status, body := w.client.call(http.MethodGet, "/health/ready", "")
	responseBody = fmt.Sprintf("%d %s", status, body)
	return status == http.StatusServiceUnavailable && strings.Contains(responseBody, `"disk":false`), responseBody
}

// waitUntilFull waits until the store frees no more space by itself. It returns since
// when the disk is full.
func (w *fullDiskHarness) waitUntilFull() (full time.Time) {
	w.Helper()
	deadline := time.Now().Add(90 * time.Second)
	for dipped := false; !dipped || time.Since(full) < 3*refusedWithin; time.Sleep(time.Millisecond) {
		known, _ := w.reportsFull()
		switch free := w.disk.free(); {
		case free >= fullMinFree+fullMinFree/10: // sends are accepted again
			dipped = false
		case free >= fullMinFree && time.Since(full) < refusedWithin && !known: // the service has not detected it yet
			dipped = false
		case free < fullMinFree && !dipped:
			dipped, full = true, time.Now()
		}
		if time.Now().After(deadline) {
			w.Fatalf("the load did not fill the disk: %d bytes are free", w.disk.free())
		}
	}
	return full
}

// verify runs the program's check of the whole store, after the service has stopped.
func (w *fullDiskHarness) verify() {
	w.Helper()
	path, err := program.Build("")
	if err != nil {
		w.Fatal(err)
	}
	command := exec.Command(path, "verify")
	command.Env = append(os.Environ(), "DATA_DIR="+filepath.Join(w.disk.dir, "data"))
	if out, err := command.CombinedOutput(); err != nil {
		w.Errorf("verify: %v\n%s", err, out)
	}
}

func (w *fullDiskHarness) pause(least, most time.Duration) {
	time.Sleep(least + time.Duration(w.Rand.Int64N(int64(most-least))))
}

// slowestRefusal is the maximum time to a refusal over all rounds.
type slowestRefusal struct {
	mu              sync.Mutex
	taken, answered time.Duration
}

func (s *slowestRefusal) note(taken, answered time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken, s.answered = max(s.taken, taken), max(s.answered, answered)
}

// String implements [fmt.Stringer].
func (s *slowestRefusal) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Sprintf("after the disk was full, the last accepted send began within %s and the first refusal came within %s",
		s.taken.Round(time.Millisecond), s.answered.Round(time.Millisecond))
}
