package rigs_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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

// fullUsers have queues; one more, the last, never reads.
const fullUsers = 8

// outcome is what is known of a message that was sent.
type outcome struct {
	status int       // of the answer; 0 for none
	began  time.Time // when it was sent
	ended  time.Time // when it was answered
	read   bool      // its receiver got it
	stored int       // how often the backend got it
}

// fullLedger keeps outside of the service what it has answered, and judges.
type fullLedger struct {
	mu       sync.Mutex
	messages map[string]*outcome // by text's first word
}

func (l *fullLedger) note(name string, change func(o *outcome)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	o := l.messages[name]
	if o == nil {
		o = new(outcome)
		l.messages[name] = o
	}
	change(o)
}

func (l *fullLedger) each(f func(name string, o *outcome)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, o := range l.messages {
		f(name, o)
	}
}

func (l *fullLedger) count(which func(o *outcome) bool) (n int) {
	l.each(func(_ string, o *outcome) {
		if which(o) {
			n++
		}
	})
	return n
}

// lost are messages that were answered with success and reached nobody, or not
// the backend; ghosts those that were refused and are there all the same.
func (l *fullLedger) lost() (lost, ghosts []string) {
	l.each(func(name string, o *outcome) {
		switch {
		case o.status == http.StatusOK && (!o.read || o.stored == 0):
			lost = append(lost, fmt.Sprintf("%s (read %t, to the backend %d times)", name, o.read, o.stored))
		case o.status == http.StatusInsufficientStorage && (o.read || o.stored > 0):
			ghosts = append(ghosts, name)
		}
	})
	return lost, ghosts
}

// fullSink is a backend that takes everything, and tells the ledger.
func fullSink(ledger *fullLedger) (url string, stop func(), err error) {
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

// fullClient talks to the service.
type fullClient struct {
	url    string
	ledger *fullLedger
	http   *http.Client
	prefix string // tells the messages of one program's life from another's
	number atomic.Int64
}

func newFullClient(url, prefix string, ledger *fullLedger) *fullClient {
	return &fullClient{
		url: url, prefix: prefix, ledger: ledger,
		http: &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 32}},
	}
}

// call gives status 0 where there was no answer.
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
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, nil
	}
	return response.StatusCode, answer
}

// send sends one message to a user and notes what became of it.
func (c *fullClient) send(user, size int, padding []byte) int {
	name := c.prefix + strconv.FormatInt(c.number.Add(1), 10)
	o := outcome{began: time.Now()}
	o.status, _ = c.call(http.MethodPost, "/api/messages/send",
		fmt.Sprintf(`{"conversation_id":%d,"sender_id":1,"receiver_id":%d,"text":"%s %s"}`, user, user, name, padding[:size]))
	o.ended = time.Now()
	c.ledger.note(name, func(known *outcome) { known.status, known.began, known.ended = o.status, o.began, o.ended })
	return o.status
}

// batch sends many long messages to a user at once, and notes what became of
// them.
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

// padding is text that does not compress.
func padding(seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	text := make([]byte, 64<<10-64)
	for i := range text {
		text[i] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[r.IntN(64)]
	}
	return text
}

// load sends until stop, from so many goroutines; wait joins them.
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

// take takes some messages of a user, plainly or under a lease that it
// acknowledges; it gives how many.
func (c *fullClient) take(user, limit int, lease bool) (int, error) {
	path := fmt.Sprintf("/api/messages/queue/%d?max_count=%d", user, limit)
	if lease {
		path += "&lease=60"
	}
	status, answer := c.call(http.MethodGet, path, "")
	var page struct{ Messages []fullMessage }
	if status != http.StatusOK || json.Unmarshal(answer, &page) != nil {
		return 0, fmt.Errorf("%w: %d %.200s", errTake, status, answer)
	}
	if lease && len(page.Messages) > 0 {
		receipts := make([]string, len(page.Messages))
		for i := range page.Messages {
			receipts[i] = page.Messages[i].Receipt
		}
		if err := c.settle("ack", "acked", user, receipts); err != nil {
			return 0, err
		}
	}
	for _, m := range page.Messages {
		c.ledger.note(m.name(), func(o *outcome) { o.read = true })
	}
	return len(page.Messages), nil
}

// nack takes one message under a lease and gives it back.
func (c *fullClient) nack(user int) error {
	status, answer := c.call(http.MethodGet, fmt.Sprintf("/api/messages/queue/%d?max_count=1&lease=10", user), "")
	var page struct{ Messages []fullMessage }
	if status != http.StatusOK || json.Unmarshal(answer, &page) != nil {
		return fmt.Errorf("%w: %d %.200s", errTake, status, answer)
	}
	if len(page.Messages) == 0 {
		return nil
	}
	return c.settle("nack", "nacked", user, []string{page.Messages[0].Receipt})
}

func (c *fullClient) settle(verb, want string, user int, receipts []string) error {
	body, err := json.Marshal(map[string]any{"user_id": user, "receipts": receipts})
	if err != nil {
		return err
	}
	status, answer := c.call(http.MethodPost, "/api/messages/"+verb, string(body))
	if n := bytes.Count(answer, []byte(`"`+want+`"`)); status != http.StatusOK || n != len(receipts) {
		return fmt.Errorf("%w: %s: %d, %d of %d: %.200s", errTake, verb, status, n, len(receipts), answer)
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

// releaseLeases waits until the leases are over whose answers were lost.
func (w *fullWorld) releaseLeases() {
	w.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		_, answer := w.client.call(http.MethodGet, "/metrics", "")
		if strings.Contains(string(answer), "messaging_leases 0\n") {
			return
		}
	}
	w.Error("leases do not end")
}

// staysFull takes the room that the store gives back meanwhile, but for some: the
// reserve may be used up.
func (w *fullWorld) staysFull() {
	for began := time.Now(); time.Since(began) < 3*refusedWithin; time.Sleep(5 * time.Millisecond) {
		w.disk.fill(fullMinFree / 2)
	}
}

// saysFull says whether the service knows that its disk is full, and what it
// answered.
func (w *fullWorld) saysFull() (full bool, answer string) {
	status, body := w.client.call(http.MethodGet, "/health/ready", "")
	answer = fmt.Sprintf("%d %s", status, body)
	return status == http.StatusServiceUnavailable && strings.Contains(answer, `"disk":false`), answer
}

// staysFullByItself waits until nothing that the store gives back makes room any
// more; it gives since when.
func (w *fullWorld) staysFullByItself() (full time.Time) {
	w.Helper()
	deadline := time.Now().Add(90 * time.Second)
	for dipped := false; !dipped || time.Since(full) < 3*refusedWithin; time.Sleep(time.Millisecond) {
		known, _ := w.saysFull()
		switch free := w.disk.free(); {
		case free >= fullMinFree+fullMinFree/10: // sends are taken again
			dipped = false
		case free >= fullMinFree && time.Since(full) < refusedWithin && !known: // it has not seen it
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

// verify has the program check the stopped store whole.
func (w *fullWorld) verify() {
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

func (w *fullWorld) pause(least, most time.Duration) {
	time.Sleep(least + time.Duration(w.Rand.Int64N(int64(most-least))))
}

// slowestRefusal is how long it took at the most, over all rounds.
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
	return fmt.Sprintf("the last send that was taken began at most %s, the first refusal was answered at most %s after the disk was full",
		s.taken.Round(time.Millisecond), s.answered.Round(time.Millisecond))
}
