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

// networkScenarios returns failures of the network and of the processes at its ends.
func networkScenarios() []scenario {
	list := append(toxics(), unreachable()...)
	return append(
		list,
		scenario{name: "connections refused", net: func(w *world) {
			w.proxy.Stop()
			w.waitForStall()
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
			w.waitForStall()
			w.django.restart()
		}},
		scenario{name: "restarts of the drain", net: func(w *world) {
			for range 5 {
				time.Sleep(5 * time.Millisecond)
				w.restart()
			}
		}},
		scenario{
			name: "crashes of the drain, during refusals", fault: refuses(spread, 400), requests: forEver, dead: []string{"a/5", "b/5", "c/5"}, status: 400,
			net: func(w *world) {
				position := w.drain.Position()
				for range 5 {
					time.Sleep(20 * time.Millisecond)
					w.crash(position)
				}
			},
		},
	)
}

// toxics returns temporary failures of the connection, injected by toxiproxy.
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
		{name: "responses in a black hole", net: while("timeout", "downstream", map[string]any{"timeout": 0})},
		{name: "closed after a while", net: while("timeout", "downstream", map[string]any{"timeout": 50})},
		{name: "resets", net: while("reset_peer", "downstream", map[string]any{"timeout": 0})},
		{name: "resets of requests", net: while("reset_peer", "upstream", map[string]any{"timeout": 0})},
		{name: "half a response", net: while("limit_data", "downstream", map[string]any{"bytes": 60})},
		{name: "half a request", net: while("limit_data", "upstream", map[string]any{"bytes": 300})},
		{name: "responses at a byte per second", net: while("slicer", "downstream", map[string]any{"average_size": 1, "size_variation": 0, "delay": 1_000_000})},
		{name: "requests in slices", net: while("slicer", "upstream", map[string]any{"average_size": 100, "size_variation": 50, "delay": 100})},
		{name: "requests at a kilobyte per second", net: while("bandwidth", "upstream", map[string]any{"rate": 1})},
		{name: "slow and uneven", net: while("latency", "downstream", map[string]any{"latency": 60, "jitter": 50})},
		{name: "slower than the timeout", net: while("latency", "downstream", map[string]any{"latency": 400, "jitter": 50})},
		{name: "slow to close", net: while("slow_close", "downstream", map[string]any{"delay": 200})},
	}
}

// unreachable replaces the backend's address by an invalid one until the drain has
// failed on it.
func unreachable() []scenario {
	instead := func(address func(w *world) string) func(w *world) {
		return func(w *world) {
			right := w.sink.get()
			w.sink.set(w.newSink(address(w) + "/persist/"))
			w.waitForStall()
			w.sink.set(right)
		}
	}
	return []scenario{
		{name: "an unknown host name", net: instead(func(*world) string { return "http://nowhere.invalid" })},
		{name: "only the other address family", net: instead(func(w *world) string {
			_, port, _ := net.SplitHostPort(w.proxy.Listen)
			return "http://[::1]:" + port
		})},
		{name: "TLS to a server without TLS", net: instead(func(w *world) string { return strings.Replace(w.django.server.URL, "http:", "https:", 1) })},
		{name: "an untrusted certificate", net: instead(func(w *world) string {
			server := httptest.NewUnstartedServer(http.NotFoundHandler())
			server.Config.ErrorLog = quiet
			server.StartTLS()
			w.Cleanup(server.Close)
			return server.URL
		})},
		{name: "a server that breaks off the TLS handshake", net: instead(func(w *world) string {
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
		{name: "an invalid address", net: instead(func(*world) string { return "http://127.0.0.1:99999" })},
	}
}

// quiet discards the error log of servers whose clients fail on purpose.
var quiet = log.New(io.Discard, "", 0)
