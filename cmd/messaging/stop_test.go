package main_test

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestTerminationFinishesWhatIsInFlight(t *testing.T) {
	s := startService(t, "SHUTDOWN_DELAY=300ms")
	var wg sync.WaitGroup
	var mu sync.Mutex
	acknowledged := 0
	stop := make(chan struct{})
	for range 8 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				status, _ := s.post("/api/messages/send", `{"conversation_id":1,"sender_id":1,"receiver_id":5,"text":"x"}`)
				if status == http.StatusOK {
					mu.Lock()
					acknowledged++
					mu.Unlock()
				}
			}
		})
	}
	time.Sleep(300 * time.Millisecond)
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	eventually(t, 5*time.Second, "readiness is red or the listener closed", func() bool {
		status, _ := s.get("/health/ready")
		return status != http.StatusOK
	})
	if code := s.wait(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	close(stop)
	wg.Wait()
	s.start(t)
	_, answer := s.get("/api/stats")
	if got := int(answer["queue_messages"].(float64)); got < acknowledged {
		t.Errorf("%d messages were acknowledged, %d are in the queue", acknowledged, got)
	}
}

// hangingBackend starts a backend that reads requests and does not respond. began receives
// a value for each request.
func hangingBackend(t *testing.T) (url string, began <-chan struct{}) {
	t.Helper()
	arrived, over := make(chan struct{}, 100), make(chan struct{})
	backend := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		arrived <- struct{}{}
		select {
		case <-over:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(func() { close(over); backend.Close() })
	return backend.URL, arrived
}

// stuck starts a service whose drain waits for a response that does not come.
func stuck(t *testing.T, env ...string) *service {
	t.Helper()
	backend, began := hangingBackend(t)
	s := startService(t, append(env, "DJANGO_API_URL="+backend, "PERSIST_TIMEOUT=1m", "PERSIST_LINGER=0s", "REQUEST_TIMEOUT=1m")...)
	s.send(t, 1, "x")
	select {
	case <-began:
	case <-time.After(10 * time.Second):
		t.Fatal("nothing was sent to the backend")
	}
	return s
}

func TestSecondSignalCutsTheDrainShort(t *testing.T) {
	s := stuck(t, "SHUTDOWN_GRACE=1m")
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	eventually(t, 5*time.Second, "the listener is closed", func() bool {
		status, _ := s.get("/health")
		return status == 0
	})
	select {
	case <-s.done:
		t.Fatal("it did not wait for the response")
	case <-time.After(1100 * time.Millisecond):
	}
	began := time.Now()
	if code := s.terminate(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s after the second signal", took)
	}
}

func TestSecondSignalCutsRequestsShort(t *testing.T) {
	s := startService(t, "SHUTDOWN_GRACE=1m", "SHUTDOWN_DELAY=1m", "REQUEST_TIMEOUT=1m")
	s.hang(t)
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	time.Sleep(1100 * time.Millisecond)
	began := time.Now()
	if code := s.terminate(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s after the second signal", took)
	}
}

func TestTwoSignalsWithinASecondAreOne(t *testing.T) {
	s := stuck(t, "SHUTDOWN_GRACE=3s")
	_ = s.cmd.Process.Signal(syscall.SIGINT) // two pending signals of one kind are merged
	began := time.Now()
	if code := s.terminate(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	if took := time.Since(began); took < 2*time.Second {
		t.Errorf("it took %s: the second signal ended the grace of 3s", took)
	}
	if strings.Contains(s.log.String(), "second signal") {
		t.Errorf("the log mentions a second signal:\n%s", s.log)
	}
}

func TestHangupIsLoggedAndServiceGoesOn(t *testing.T) {
	s := startService(t)
	_ = s.cmd.Process.Signal(syscall.SIGHUP)
	time.Sleep(300 * time.Millisecond)
	s.send(t, 1, "after it")
	if code := s.terminate(); code != 0 || strings.Count(s.log.String(), "SIGHUP: files are loaded again") != 1 {
		t.Errorf("exit status %d, %s", code, s.log)
	}
}

func TestStopTakesOneGraceAltogether(t *testing.T) {
	s := stuck(t, "SHUTDOWN_GRACE=3s")
	s.hang(t)
	began := time.Now()
	if code := s.terminate(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	if took := time.Since(began); took < 2*time.Second || took > 5*time.Second {
		t.Errorf("it took %s with a grace of 3s", took)
	}
}

// hang starts a request whose body does not arrive.
func (s *service) hang(t *testing.T) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_, _ = io.WriteString(conn, "POST /api/messages/send HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
	time.Sleep(100 * time.Millisecond)
}
