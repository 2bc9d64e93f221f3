// Command queues measures what the queues' calls cost, over HTTP against the
// built program with its data on a real disk. Things that are compared are
// measured in turn in one run. It starts bin/messaging on loopback, and stops by
// itself.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/go-json-experiment/json"
)

var (
	program     = flag.String("program", "bin/messaging", "the built program")
	dir         = flag.String("dir", "", "where data directories are made (default: the system's temporary one)")
	port        = flag.Int("port", 18765, "port to let it listen on")
	rounds      = flag.Int("rounds", 5, "how often each side is measured, in turn")
	each        = flag.Duration("each", 3*time.Second, "how long one measurement takes")
	connections = flag.Int("connections", 64, "connections at once")
	perSecond   = flag.Int("backlog", 60_000, "messages that are queued for each second of leasing")
	waiters     = flag.Int("waiters", 10_000, "readers that wait at once")
)

func main() {
	flag.Parse()
	scenarios := map[string]func(s *service) error{
		"lease": lease, "batch": batch, "broadcast": broadcast, "take": take, "wait": wait,
	}
	names := flag.Args()
	if len(names) == 0 {
		names = []string{"lease", "batch", "broadcast", "take", "wait"}
	}
	for _, name := range names {
		run, ok := scenarios[name]
		if !ok {
			fmt.Fprintln(os.Stderr, "unknown scenario:", name)
			os.Exit(2)
		}
		if err := with(run); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
			os.Exit(1)
		}
	}
}

// service is a running program.
type service struct {
	url    string
	dir    string
	cmd    *exec.Cmd
	client *http.Client
}

// with runs a scenario against a new service.
func with(run func(s *service) error) (err error) {
	data, err := os.MkdirTemp(*dir, "messaging-queues.")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(data)) }()
	s := &service{url: "http://127.0.0.1:" + strconv.Itoa(*port), dir: data}
	s.client = &http.Client{Timeout: 2 * time.Minute, Transport: &http.Transport{
		MaxIdleConnsPerHost: *connections + *waiters, DisableCompression: true,
	}}
	s.cmd = exec.CommandContext(context.Background(), *program, "serve") //nolint:gosec // who runs this names the program
	s.cmd.Env = append(os.Environ(), "HTTP_PORT="+strconv.Itoa(*port), "DATA_DIR="+data+"/data", "DJANGO_API_URL=off", "LOG_LEVEL=warn",
		"MAX_CONNECTIONS="+strconv.Itoa(*waiters+*connections+1000), "MESSAGE_QUEUE_MAX_SIZE=1000000")
	s.cmd.Stderr = os.Stderr
	if err := s.cmd.Start(); err != nil {
		return err
	}
	defer func() {
		_ = s.cmd.Process.Signal(syscall.SIGTERM)
		err = errors.Join(err, s.cmd.Wait())
	}()
	for range 200 {
		if _, err := s.call(http.MethodGet, "/health/ready", "", nil); err == nil {
			return run(s)
		}
		time.Sleep(50 * time.Millisecond)
	}
	return errors.New("it does not become ready")
}

// call calls the service and reads the answer; anything but 200 is an error.
func (s *service) call(method, path, kind string, body []byte) ([]byte, error) {
	request, err := http.NewRequestWithContext(context.Background(), method, s.url+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if kind != "" {
		request.Header.Set("Content-Type", kind)
	}
	response, err := s.client.Do(request)
	if err != nil {
		return nil, err
	}
	answer, err := io.ReadAll(response.Body)
	if err = errors.Join(err, response.Body.Close()); err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s %s: %s %s", method, path, response.Status, answer)
	}
	return answer, nil
}

const (
	mediaJSON  = "application/json"
	mediaLines = "application/x-ndjson"
)

var padding = strings.Repeat("x", 60)

// message is about 220 bytes.
func message(user int) string {
	return fmt.Sprintf(`{"conversation_id":%d,"sender_id":%d,"receiver_id":%d,"text":"Hello from the load generator %s","message_type":"text","priority":"%s","metadata":{"n":%d}}`,
		user, user+1, user, padding, [...]string{"high", "normal", "low"}[user%3], user)
}

// users is how many users messages go to.
const users = 10_000

// fill sends n messages in batches of 1,000.
func (s *service) fill(n int, user func(i int) int) error {
	for from := 0; from < n; from += 1000 {
		var lines bytes.Buffer
		for i := from; i < min(n, from+1000); i++ {
			lines.WriteString(message(user(i)))
			lines.WriteByte('\n')
		}
		if _, err := s.call(http.MethodPost, "/api/messages/batch", mediaLines, lines.Bytes()); err != nil {
			return err
		}
	}
	return nil
}

// load lets connections do something over and over for a while, and gives how
// much it was a second. do gives how many messages it was.
func load(workers int, d time.Duration, do func(worker, n int) (int, error)) (float64, error) {
	var total atomic.Int64
	var wg sync.WaitGroup
	failures := make(chan error, workers)
	began := time.Now()
	for w := range workers {
		wg.Go(func() {
			for n := 0; time.Since(began) < d; n++ {
				count, err := do(w, n)
				if err != nil {
					failures <- err
					return
				}
				total.Add(int64(count))
			}
		})
	}
	wg.Wait()
	close(failures)
	return float64(total.Load()) / time.Since(began).Seconds(), <-failures
}

func (s *service) send(worker, n int) (int, error) {
	_, err := s.call(http.MethodPost, "/api/messages/send", mediaJSON, []byte(message((worker*7919+n*104729)%users)))
	return 1, err
}

// lease compares taking ten under a lease and acknowledging them with single
// sends.
func lease(s *service) error {
	return compare("lease 10 and acknowledge", "single sends", func() (float64, error) {
		// Every worker has users of its own, whose queues are filled for this round
		// with more than it can take.
		for user := range *connections * 10 {
			if _, err := s.call(http.MethodDelete, "/api/messages/queue/"+strconv.Itoa(users+user), "", nil); err != nil {
				return 0, err
			}
		}
		backlog := *perSecond * int(*each/time.Millisecond) / 1000
		if err := s.fill(backlog, func(i int) int { return users + i%(*connections*10) }); err != nil {
			return 0, err
		}
		time.Sleep(settle)
		return load(*connections, *each, s.leaseTen)
	}, func() (float64, error) {
		time.Sleep(settle)
		return load(*connections, *each, s.send)
	})
}

// settle is how long the store has to write down what came before, so that a
// measurement has only its own work.
const settle = 3 * time.Second

func (s *service) leaseTen(worker, n int) (int, error) {
	user := strconv.Itoa(users + worker + (n%10)**connections)
	answer, err := s.call(http.MethodGet, "/api/messages/queue/"+user+"?max_count=10&lease=60", "", nil)
	if err != nil {
		return 0, err
	}
	request := []byte(`{"user_id":` + user + `,"receipts":[`)
	count := 0
	for rest := answer; ; count++ {
		_, found, ok := bytes.Cut(rest, []byte(`"receipt":"`))
		if !ok {
			break
		}
		receipt, behind, _ := bytes.Cut(found, []byte(`"`))
		if count > 0 {
			request = append(request, ',')
		}
		request = append(append(append(request, '"'), receipt...), '"')
		rest = behind
	}
	if count == 0 {
		return 0, errors.New("a queue has run empty: give it more")
	}
	answer, err = s.call(http.MethodPost, "/api/messages/ack", mediaJSON, append(request, "]}"...))
	if err == nil && bytes.Count(answer, []byte(`"acked"`)) != count {
		err = fmt.Errorf("%d of %d were acknowledged: %s", bytes.Count(answer, []byte(`"acked"`)), count, answer)
	}
	return count, err
}

// batch compares batch sends with Pebble alone (see yardstick.go).
func batch(s *service) error {
	for _, size := range []int{100, 1000} {
		bodies := make([][]byte, 64)
		for i := range bodies {
			var lines bytes.Buffer
			for n := range size {
				lines.WriteString(message((i*size*31 + n*7919) % users))
				lines.WriteByte('\n')
			}
			bodies[i] = lines.Bytes()
		}
		yard, err := newYardstick(s.dir+"/yardstick", size)
		if err != nil {
			return err
		}
		err = compare(fmt.Sprintf("batches of %d", size), "Pebble alone with the same", func() (float64, error) {
			return load(4, *each, func(worker, n int) (int, error) {
				_, err := s.call(http.MethodPost, "/api/messages/batch", mediaLines, bodies[(worker+n*4)%len(bodies)])
				return size, err
			})
		}, func() (float64, error) { return load(4, *each, yard.commit) })
		if err = errors.Join(err, yard.close()); err != nil {
			return err
		}
	}
	return nil
}

// broadcast measures one to 100,000 users, and what other sends notice of it.
func broadcast(s *service) error {
	const receivers = 100_000
	ids := make([]string, receivers)
	for i := range ids {
		ids[i] = strconv.Itoa(1_000_000 + i)
	}
	body := []byte(`{"message":{"sender_id":1,"text":"to all"},"user_ids":[` + strings.Join(ids, ",") + `]}`)
	var answered, everywhere, quiet, meanwhile []float64
	for range *rounds {
		before, err := s.latencies(2*time.Second, func() bool { return false })
		if err != nil {
			return err
		}
		queued, err := s.stat("queue_messages")
		if err != nil {
			return err
		}
		sent, done := make(chan error, 1), make(chan struct{})
		var tookAnswer, tookAll time.Duration
		go func() {
			defer close(done)
			began := time.Now()
			_, err := s.call(http.MethodPost, "/api/messages/broadcast", mediaJSON, body)
			tookAnswer = time.Since(began)
			for err == nil {
				var now float64
				if now, err = s.fannedOut(); err == nil && now == 0 {
					break
				}
				time.Sleep(5 * time.Millisecond)
			}
			tookAll = time.Since(began)
			sent <- err
		}()
		during, err := s.latencies(20*time.Second, func() bool {
			select {
			case <-done:
				return true
			default:
				return false
			}
		})
		if err = errors.Join(err, <-sent); err != nil {
			return err
		}
		after, err := s.stat("queue_messages")
		if err != nil || after-queued < receivers {
			return fmt.Errorf("%.0f more are queued, want %d (%w)", after-queued, receivers, err)
		}
		answered, everywhere = append(answered, tookAnswer.Seconds()), append(everywhere, tookAll.Seconds())
		quiet, meanwhile = append(quiet, percentile(before, 99)), append(meanwhile, percentile(during, 99))
	}
	fmt.Printf("broadcast to %d: answered after %s s, in every queue after %s s\n", receivers, spread(answered, 3), spread(everywhere, 3))
	fmt.Printf("  p99 of 16 others' sends: %s ms before, %s ms meanwhile, ratio %s\n", spread(times(quiet, 1000), 2), spread(times(meanwhile, 1000), 2), spread(ratios(meanwhile, quiet), 2))
	return nil
}

// fannedOut is how many large broadcasts are not in all queues yet.
func (s *service) fannedOut() (float64, error) { return s.stat("fanouts") }

func (s *service) stat(name string) (float64, error) {
	answer, err := s.call(http.MethodGet, "/api/stats", "", nil)
	if err != nil {
		return 0, err
	}
	var stats map[string]any
	if err := json.Unmarshal(answer, &stats); err != nil {
		return 0, err
	}
	value, ok := stats[name].(float64)
	if !ok {
		return 0, fmt.Errorf("the statistics have no %s", name)
	}
	return value, nil
}

// latencies sends from 16 connections, each at a leisurely pace, and gives how
// long each send took, in seconds.
func (s *service) latencies(d time.Duration, enough func() bool) ([]float64, error) {
	var mu sync.Mutex
	var list []float64
	stop := time.Now().Add(d)
	_, err := load(16, d, func(worker, n int) (int, error) {
		if enough() || time.Now().After(stop) {
			time.Sleep(10 * time.Millisecond)
			return 0, nil
		}
		began := time.Now()
		_, err := s.send(worker, n)
		took := time.Since(began).Seconds()
		mu.Lock()
		list = append(list, took)
		mu.Unlock()
		time.Sleep(10 * time.Millisecond)
		return 1, err
	})
	return list, err
}

// take compares a take from a queue of 100,000 that has had 100,000 taken with
// one from a fresh queue of 100,000.
func take(s *service) error {
	const size = 100_000
	if err := s.fill(2*size, func(int) int { return 3 }); err != nil {
		return err
	}
	for range size / 1000 {
		if _, err := s.call(http.MethodGet, "/api/messages/queue/3?max_count=1000", "", nil); err != nil {
			return err
		}
	}
	if err := s.fill(size, func(int) int { return 6 }); err != nil { // of the same priority
		return err
	}
	one := func(user string) func() (float64, error) {
		return func() (float64, error) {
			var list []float64
			for range 300 {
				began := time.Now()
				if _, err := s.call(http.MethodGet, "/api/messages/queue/"+user+"?max_count=10", "", nil); err != nil {
					return 0, err
				}
				list = append(list, time.Since(began).Seconds())
			}
			return percentile(list, 50) * 1000, nil
		}
	}
	return compare("ms a take of 10 with 100,000 taken before", "ms from a fresh queue", one("3"), one("6"))
}

// wait measures the memory of the whole process with 10,000 readers waiting,
// and how long a message takes to reach one of them.
func wait(s *service) error {
	before, err := s.resident()
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	var woken atomic.Int64
	for i := range *waiters {
		wg.Go(func() {
			if answer, err := s.call(http.MethodGet, "/api/messages/queue/w"+strconv.Itoa(i)+"?wait=60&max_count=1", "", nil); err == nil && bytes.Contains(answer, []byte(`"count":1`)) {
				woken.Add(1)
			}
		})
		if i%200 == 0 {
			time.Sleep(20 * time.Millisecond)
		}
	}
	for {
		n, err := s.stat("waiting_readers")
		if err != nil {
			return err
		}
		if int(n) >= *waiters {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	time.Sleep(3 * time.Second)
	during, err := s.resident()
	if err != nil {
		return err
	}
	latency, err := s.wakeUps()
	if err != nil {
		return err
	}
	fmt.Printf("%d readers wait: %d MiB resident (%d before they came); a message reaches its waiter %s ms after its send began (p50), %.2f (p99)\n",
		*waiters, during>>20, before>>20, spread([]float64{percentile(latency, 50)}, 2), percentile(latency, 99))
	for i := range *waiters { // let them go
		if _, err := s.call(http.MethodPost, "/api/messages/send", mediaJSON, fmt.Appendf(nil, `{"conversation_id":1,"sender_id":2,"receiver_id":"w%d","text":"x"}`, i)); err != nil {
			return err
		}
	}
	wg.Wait()
	if int(woken.Load()) != *waiters {
		return fmt.Errorf("%d of %d were woken", woken.Load(), *waiters)
	}
	return nil
}

// wakeUps measures, with all the others waiting, from the beginning of a send to
// the end of its waiter's answer, in milliseconds.
func (s *service) wakeUps() (list []float64, err error) {
	for range 200 {
		got := make(chan error, 1)
		go func() {
			_, err := s.call(http.MethodGet, "/api/messages/queue/probe?wait=30", "", nil)
			got <- err
		}()
		time.Sleep(5 * time.Millisecond)
		began := time.Now()
		if _, err := s.call(http.MethodPost, "/api/messages/send", mediaJSON, []byte(`{"conversation_id":1,"sender_id":2,"receiver_id":"probe","text":"x"}`)); err != nil {
			return nil, err
		}
		if err := <-got; err != nil {
			return nil, err
		}
		list = append(list, time.Since(began).Seconds()*1000)
	}
	return list, nil
}

// resident is the memory of the process, in bytes.
func (s *service) resident() (int, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(s.cmd.Process.Pid) + "/status")
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0, errors.New("no VmRSS")
	}
	kib, err := strconv.Atoi(fields[0])
	return kib << 10, err
}

// compare measures two things in turn and prints medians, spreads and the ratio.
func compare(what, other string, a, b func() (float64, error)) error {
	var left, right []float64
	for range *rounds {
		x, err := a()
		if err != nil {
			return err
		}
		y, err := b()
		if err != nil {
			return err
		}
		left, right = append(left, x), append(right, y)
	}
	digits := 0
	if left[0] < 100 {
		digits = 3
	}
	fmt.Printf("%s: %s; %s: %s; ratio %s\n", what, spread(left, digits), other, spread(right, digits), spread(ratios(left, right), 2))
	return nil
}

func ratios(a, b []float64) []float64 {
	list := make([]float64, len(a))
	for i := range a {
		list[i] = a[i] / b[i]
	}
	return list
}

func times(list []float64, by float64) []float64 {
	scaled := make([]float64, len(list))
	for i := range list {
		scaled[i] = list[i] * by
	}
	return scaled
}

func percentile(list []float64, p int) float64 {
	if len(list) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(list))
	return sorted[min(len(sorted)-1, len(sorted)*p/100)]
}

// spread writes a median with the least and the most.
func spread(list []float64, digits int) string {
	return fmt.Sprintf("%.*f (%.*f to %.*f)", digits, percentile(list, 50), digits, slices.Min(list), digits, slices.Max(list))
}
