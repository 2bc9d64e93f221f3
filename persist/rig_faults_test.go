package persist_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// says responds with a status and a body and stores nothing.
func says(status int, body string, header ...string) fault {
	return func(d *django, w http.ResponseWriter, _ *http.Request, batch []sent) {
		if len(batch) == 1 {
			d.hold(batch[0].Name) // it may be refused alone
		}
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// counts responds with a body that depends on the number of messages, and stores
// nothing.
func counts(body func(n int) string) fault {
	return func(d *django, w http.ResponseWriter, r *http.Request, batch []sent) {
		says(200, body(len(batch)))(d, w, r, batch)
	}
}

// storing stores the batch and then applies another fault.
func storing(then fault) fault {
	return func(d *django, w http.ResponseWriter, r *http.Request, batch []sent) {
		d.store(batch)
		then(d, w, r, batch)
	}
}

// naming is how an error identifies its message.
type naming func(m sent) string

func byID(m sent) string { return fmt.Sprintf(`{"id":%q}`, m.ID) }

// whole returns the whole message, as the original endpoint does.
func whole(m sent) string { return string(m.Raw) }

// equal returns the message without the members that the service added, and with its
// members in another order.
func equal(m sent) string {
	var members map[string]json.RawMessage
	_ = json.Unmarshal(m.Raw, &members)
	for _, added := range []string{"id", "sequence", "created_at"} {
		delete(members, added)
	}
	text, _ := json.Marshal(members)
	return string(text)
}

// errorsFor stores the messages that are not in trouble and returns errors for the
// others, the last one first.
func errorsFor(trouble func(name string) bool, text string, more string) fault {
	return errorsNamed(byID, trouble, text, more)
}

func errorsNamed(named naming, trouble func(name string) bool, text string, more string) fault {
	return func(d *django, w http.ResponseWriter, _ *http.Request, batch []sent) {
		var good []sent
		var list []string
		for _, m := range batch {
			if trouble(m.Name) {
				d.hold(m.Name)
				list = append([]string{fmt.Sprintf(`{"message":%s,"error":%q%s}`, named(m), text, more)}, list...)
			} else {
				good = append(good, m)
			}
		}
		d.store(good)
		_, _ = fmt.Fprintf(w, `{"persisted":%d,"errors":[%s]}`, len(good), strings.Join(list, ","))
	}
}

// refuses responds to a whole batch with a status while a message in it is in trouble.
func refuses(trouble func(batch []sent) bool, status int) fault {
	return func(d *django, w http.ResponseWriter, _ *http.Request, batch []sent) {
		if trouble(batch) {
			if len(batch) == 1 {
				d.hold(batch[0].Name)
			}
			http.Error(w, "no", status)
			return
		}
		d.store(batch)
		_, _ = fmt.Fprintf(w, `{"persisted":%d}`, len(batch))
	}
}

func everything(string) bool { return true }

// isPoison selects the one message that some scenarios refuse.
func isPoison(name string) bool { return name == "a/5" }

func hasPoison(batch []sent) bool {
	for _, m := range batch {
		if isPoison(m.Name) {
			return true
		}
	}
	return false
}

// spread selects batches with a poison message, of which each conversation has one.
func spread(batch []sent) bool {
	for _, m := range batch {
		if strings.HasSuffix(m.Name, "/5") {
			return true
		}
	}
	return false
}

// raw writes bytes that net/http would not write, and closes the connection.
func raw(text string) fault {
	return func(_ *django, w http.ResponseWriter, _ *http.Request, _ []sent) {
		if conn, ok := hijack(w); ok {
			_, _ = io.WriteString(conn, text)
			_ = conn.Close()
		}
	}
}

// cutAtTheNext responds correctly and cuts the connection when the next request arrives
// on it, too late for the client to notice before it sends.
func cutAtTheNext(d *django, w http.ResponseWriter, _ *http.Request, batch []sent) {
	d.store(batch)
	conn, ok := hijack(w)
	if !ok {
		return
	}
	body := fmt.Sprintf(`{"persisted":%d}`, len(batch))
	_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	go func() {
		_ = conn.SetReadDeadline(time.Now().Add(2 * time.Second)) // if there is no next request
		_, _ = conn.Read(make([]byte, 1))
		reset(conn)
	}()
}

// drip writes its response byte by byte, for longer than the client's timeout.
func drip(_ *django, w http.ResponseWriter, r *http.Request, _ []sent) {
	for _, b := range []byte(`{"persisted":10,"duplicates":0}`) {
		if r.Context().Err() != nil {
			return
		}
		_, _ = w.Write([]byte{b})
		_ = http.NewResponseController(w).Flush()
		time.Sleep(50 * time.Millisecond)
	}
}

func silence(_ *django, _ http.ResponseWriter, r *http.Request, _ []sent) { <-r.Context().Done() }

func resetConnection(_ *django, w http.ResponseWriter, _ *http.Request, _ []sent) { cut(w) }

// floods responds with a status and 100 MB.
func floods(status int) fault {
	return func(d *django, w http.ResponseWriter, _ *http.Request, batch []sent) {
		if len(batch) == 1 {
			d.hold(batch[0].Name)
		}
		w.WriteHeader(status)
		n, _ := io.CopyN(w, zeros{}, 100<<20)
		d.endless(n)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// bomb responds with 50 MB of compressed zeros.
func bomb(d *django, w http.ResponseWriter, r *http.Request, batch []sent) {
	says(200, compressed(), "Content-Encoding", "gzip")(d, w, r, batch)
}

var compressed = sync.OnceValue(func() string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = io.CopyN(z, zeros{}, 50<<20)
	_ = z.Close()
	return b.String()
})

// hijack takes a connection over from net/http.
func hijack(w http.ResponseWriter) (*net.TCPConn, bool) {
	hijacker, ok := w.(http.Hijacker)
	if !ok {
		return nil, false
	}
	conn, _, err := hijacker.Hijack()
	if err != nil {
		return nil, false
	}
	tcp, ok := conn.(*net.TCPConn)
	return tcp, ok
}

// reset closes a connection with a TCP reset.
func reset(conn *net.TCPConn) {
	_ = conn.SetLinger(0)
	_ = conn.Close()
}

// cut takes a connection over and resets it.
func cut(w http.ResponseWriter) {
	if conn, ok := hijack(w); ok {
		reset(conn)
	}
}
