package persist_test

import (
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"
)

// network has what goes wrong between the two, and with either of them.
func network() []scenario {
	list := append(toxics(), unreachable()...)
	return append(
		list,
		scenario{name: "connections refused", net: func(w *world) {
			w.proxy.Stop()
			w.waits()
			w.plugIn()
		}},
		scenario{name: "up and down", net: func(w *world) {
			for range 5 {
				w.proxy.Stop()
				time.Sleep(20 * time.Millisecond)
				w.plugIn()
				time.Sleep(20 * time.Millisecond)
			}
		}},
		scenario{name: "the backend restarted", fault: says(503, ""), requests: 2, net: func(w *world) {
			w.django.stop()
			w.waits()
			w.django.again()
		}},
		scenario{name: "restarts of the drain", net: func(w *world) {
			for range 5 {
				time.Sleep(5 * time.Millisecond)
				w.restart()
			}
		}},
		scenario{name: "crashes of the drain, in the midst of refusals", fault: refuses(spread, 400), requests: forEver, dead: []string{"a/5", "b/5", "c/5"}, status: 400, net: func(w *world) {
			position := w.drain.Position()
			for range 5 {
				time.Sleep(20 * time.Millisecond)
				w.crash(position)
			}
		}},
	)
}

// toxics are there for a while, and then gone.
func toxics() []scenario {
	while := func(kind, stream string, attributes map[string]any) func(w *world) {
		return func(w *world) {
			remove := w.toxic(kind, stream, attributes)
			time.Sleep(rigTimeout + 100*time.Millisecond)
			remove()
		}
	}
	return []scenario{
		{name: "a black hole", net: while("timeout", "upstream", map[string]any{"timeout": 0})},
		{name: "answers in a black hole", net: while("timeout", "downstream", map[string]any{"timeout": 0})},
		{name: "closed after a while", net: while("timeout", "downstream", map[string]any{"timeout": 50})},
		{name: "resets", net: while("reset_peer", "downstream", map[string]any{"timeout": 0})},
		{name: "resets of requests", net: while("reset_peer", "upstream", map[string]any{"timeout": 0})},
		{name: "half an answer", net: while("limit_data", "downstream", map[string]any{"bytes": 60})},
		{name: "half a request", net: while("limit_data", "upstream", map[string]any{"bytes": 300})},
		{name: "answers at a byte a second", net: while("slicer", "downstream", map[string]any{"average_size": 1, "size_variation": 0, "delay": 1_000_000})},
		{name: "requests in slices", net: while("slicer", "upstream", map[string]any{"average_size": 100, "size_variation": 50, "delay": 100})},
		{name: "requests at a kilobyte a second", net: while("bandwidth", "upstream", map[string]any{"rate": 1})},
		{name: "slow and uneven", net: while("latency", "downstream", map[string]any{"latency": 60, "jitter": 50})},
		{name: "slower than anybody waits", net: while("latency", "downstream", map[string]any{"latency": 400, "jitter": 50})},
		{name: "slow to close", net: while("slow_close", "downstream", map[string]any{"delay": 200})},
	}
}

// unreachable puts an address in the place of the right one, until the drain has
// seen that it does not work.
func unreachable() []scenario {
	instead := func(address func(w *world) string) func(w *world) {
		return func(w *world) {
			right := w.sink.get()
			w.sink.set(w.newSink(address(w) + "/persist/"))
			w.waits()
			w.sink.set(right)
		}
	}
	return []scenario{
		{name: "a name that nobody knows", net: instead(func(*world) string { return "http://nowhere.invalid" })},
		{name: "only the other family of addresses", net: instead(func(w *world) string {
			_, port, _ := net.SplitHostPort(w.proxy.Listen)
			return "http://[::1]:" + port
		})},
		{name: "TLS to a server that has none", net: instead(func(w *world) string { return strings.Replace(w.django.server.URL, "http:", "https:", 1) })},
		{name: "a certificate that nobody knows", net: instead(func(w *world) string {
			server := httptest.NewUnstartedServer(http.NotFoundHandler())
			server.Config.ErrorLog = quiet
			server.StartTLS()
			w.Cleanup(server.Close)
			return server.URL
		})},
		{name: "a server that speaks no TLS to the end", net: instead(func(w *world) string {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				w.Fatal(err)
			}
			w.Cleanup(func() { _ = l.Close() })
			go func() {
				for {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					_, _ = conn.Read(make([]byte, 1))
					_ = conn.Close()
				}
			}()
			return "https://" + l.Addr().String()
		})},
		{name: "an address that is none", net: instead(func(*world) string { return "http://127.0.0.1:99999" })},
	}
}

// quiet is for servers whose clients are meant to go wrong.
var quiet = log.New(io.Discard, "", 0)
