package persist_test

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

const forEver = 1 << 30

// scenario is one failure of the backend or the network.
type scenario struct {
	name string
	// fault responds to that many requests; forEver means until the end of the
	// scenario.
	fault    fault
	requests int
	// net disturbs the network or the drain while the fault is active.
	net func(w *world)
	// dead are the messages that become dead letters, with this status, after that many
	// attempts.
	dead     []string
	status   int
	attempts int
	// cold omits the message that is stored first, so that there is no evidence.
	cold bool
	// endless marks a pause that only a restart ends.
	endless bool
}

// djangoScenarios returns the failures of Django's responses.
func djangoScenarios() (list []scenario) {
	list = append(list, statuses()...)
	list = append(list, pauses()...)
	list = append(list, accounts()...)
	list = append(list, messageErrors()...)
	list = append(list, refusals()...)
	return append(list, broken()...)
}

// statuses returns responses that are not about messages: everything is kept.
func statuses() (list []scenario) {
	for _, status := range []int{401, 402, 403, 404, 405, 406, 408, 409, 410, 415, 425, 429, 451, 500, 501, 502, 503, 504, 507, 599} {
		list = append(list, scenario{name: fmt.Sprintf("status %d", status), fault: says(status, "<html>no</html>"), requests: 3})
	}
	for _, status := range []int{301, 302, 303, 307, 308} {
		list = append(list, scenario{
			name: fmt.Sprintf("a redirect %d", status), requests: 3,
			fault: func(d *django, w http.ResponseWriter, r *http.Request, b []sent) {
				says(status, "", "Location", d.trap.URL+"/login/")(d, w, r, b)
			},
		})
	}
	return append(
		list,
		scenario{name: "a redirect to the same host", fault: says(301, "", "Location", "/persist"), requests: 3},
		scenario{name: "a redirect to nowhere", fault: says(302, ""), requests: 3},
		scenario{name: "a redirect to an invalid address", fault: says(302, "", "Location", "http://["), requests: 3},
		scenario{name: "a redirect that looks good", fault: says(302, `{"persisted":10}`, "Location", "/persist/?next=1"), requests: 3},
		scenario{
			name: "one status after the other", fault: faultsInOrder(says(500, ""), says(404, ""), says(429, ""), resetConnection, says(200, "")),
			requests: 10,
		},
	)
}

// faultsInOrder applies the faults one after the other.
func faultsInOrder(faults ...fault) fault {
	return func(d *django, w http.ResponseWriter, r *http.Request, batch []sent) {
		faults[d.faultsLeft()%len(faults)](d, w, r, batch)
	}
}

// pauses returns values of Retry-After.
func pauses() (list []scenario) {
	for _, status := range []int{429, 503} {
		list = append(
			list,
			scenario{name: fmt.Sprintf("%d with a second", status), fault: says(status, "", "Retry-After", "1"), requests: 1},
			scenario{name: fmt.Sprintf("%d with a date", status), requests: 1, fault: func(d *django, w http.ResponseWriter, r *http.Request, b []sent) {
				says(status, "", "Retry-After", time.Now().Add(2*time.Second).UTC().Format(http.TimeFormat))(d, w, r, b)
			}},
		)
	}
	for _, nonsense := range []string{"soon", "-5", "0", "", "NaN", "-Inf", "1e400", "Fri, 31 Dec 1999 23:59:59 GMT", "1; 2"} {
		list = append(list, scenario{name: fmt.Sprintf("503 with the pause %q", nonsense), fault: says(503, "", "Retry-After", nonsense), requests: 3})
	}
	for _, long := range []string{"3593", "1000000000000", "Fri, 31 Dec 9999 23:59:59 GMT"} {
		list = append(list, scenario{
			name: fmt.Sprintf("429 with the pause %q, and a restart", long), fault: says(429, "", "Retry-After", long), requests: 1,
			endless: true, net: func(w *world) {
				w.waitForStall()
				time.Sleep(2 * reaction) // the sink checks that nothing is sent
				w.restart()
			},
		})
	}
	return list
}

// accounts returns 2xx responses whose body does not account for the messages.
func accounts() (list []scenario) {
	for _, c := range [][2]string{
		{"a login page", "<html>log in</html>"},
		{"nothing", ""},
		{"an empty object", "{}"},
		{"maintenance", `{"detail":"maintenance"}`},
		{"half of JSON", `{"persisted":10,"err`},
		{"null", "null"},
		{"a list", "[]"},
		{"two documents", `{"persisted":10}{"persisted":10}`},
		{"a key twice", `{"persisted":1,"persisted":10}`},
		{"a number that is null", `{"persisted":null}`},
		{"a number that is text", `{"persisted":"10"}`},
		{"a number with a fraction", `{"persisted":10.5}`},
		{"a number that is too large", `{"persisted":1e99}`},
		{"numbers that overflow", `{"persisted":9223372036854775807,"duplicates":9223372036854775807}`},
		{"too many", `{"persisted":1000,"errors":[]}`},
		{"negative numbers", `{"persisted":11,"duplicates":-1}`},
		{"errors and no numbers", `{"errors":[]}`},
		{"errors that are text", `{"persisted":9,"errors":["no"]}`},
		{"errors for nothing", `{"persisted":7,"errors":[{"message":null,"error":null},{},{"error":"no"}]}`},
	} {
		list = append(list, scenario{name: "200 with " + c[0], fault: says(200, c[1]), requests: 3})
	}
	return append(
		list,
		scenario{name: "204", fault: says(204, ""), requests: 3},
		scenario{
			name: "200 with results that are missing", fault: counts(func(n int) string { return fmt.Sprintf(`{"persisted":%d,"errors":[]}`, n-1) }),
			requests: 3,
		},
		scenario{name: "200 with errors for unknown ids", fault: counts(func(n int) string {
			return fmt.Sprintf(`{"persisted":%d,"errors":[{"message":{"id":"x"},"error":"no"}]}`, n-1)
		}), requests: 3},
		scenario{
			name: "200 with one more than there were", fault: counts(func(n int) string { return fmt.Sprintf(`{"persisted":%d,"duplicates":1}`, n) }),
			requests: 3,
		},
		scenario{name: "200 with one error twice", requests: 3, fault: func(d *django, w http.ResponseWriter, r *http.Request, b []sent) {
			e := fmt.Sprintf(`{"message":{"id":%q},"error":"no"}`, b[0].ID)
			says(200, fmt.Sprintf(`{"persisted":%d,"errors":[%s,%s]}`, len(b)-2, e, e))(d, w, r, b)
		}},
		scenario{
			name: "numbers that never add up while one message is in the batch", requests: forEver, dead: []string{"a/5"}, status: 200,
			attempts: rigAttempts + 1, fault: func(d *django, w http.ResponseWriter, r *http.Request, b []sent) {
				if hasPoison(b) {
					says(200, `{"persisted":0}`)(d, w, r, b)
					return
				}
				storing(says(200, fmt.Sprintf(`{"persisted":%d}`, len(b))))(d, w, r, b)
			},
		},
		scenario{
			name: "everything is a duplicate", fault: storing(counts(func(n int) string { return fmt.Sprintf(`{"persisted":0,"duplicates":%d}`, n) })),
			requests: 3,
		},
		scenario{name: "some are duplicates", fault: storing(counts(func(n int) string {
			return fmt.Sprintf(`{"persisted":%d,"duplicates":%d,"errors":null}`,
				n-n/2, n/2)
		})), requests: forEver},
	)
}

// messageErrors returns responses with errors for all or some messages.
func messageErrors() []scenario {
	const migration = `relation "chat_message" does not exist`
	poison := []string{"a/5"}
	return []scenario{
		{name: "errors for all, as with its database down", fault: errorsFor(everything, "could not connect to server", ""), requests: 4},
		{name: "a missed migration for all", fault: errorsFor(everything, migration, ""), requests: 6},
		{name: "a missed migration, with nothing stored before", fault: errorsFor(everything, migration, ""), requests: 6, cold: true},
		{name: "a missed migration, with whole messages in the errors", fault: errorsNamed(whole, everything, migration, ""), requests: 6},
		{
			name: "suspect errors for all, with nothing stored before", fault: errorsFor(everything, "Conversation matching query does not exist.", ""), requests: 6,
			cold: true,
		},
		{name: "errors for some that go away", fault: errorsFor(func(n string) bool { return strings.HasPrefix(n, "a/") }, "deadlock detected", ""), requests: 2},
		{name: "an error that goes away, by equality", fault: errorsNamed(equal, isPoison, "deadlock detected", ""), requests: 2},
		{
			name: "one error that looks permanent", fault: errorsFor(isPoison, "Conversation matching query does not exist.", ""), requests: forEver, dead: poison,
			status: 200, attempts: 2,
		},
		{name: "one repeated error", fault: errorsFor(isPoison, "value too long", ""), requests: forEver, dead: poison, status: 200, attempts: rigAttempts},
		{
			name: "one repeated error, by equality", fault: errorsNamed(equal, isPoison, "value too long", ""), requests: forEver, dead: poison, status: 200,
			attempts: rigAttempts,
		},
		{
			name: "one repeated error, with the whole message", fault: errorsNamed(whole, isPoison, "value too long", ""), requests: forEver, dead: poison,
			status: 200, attempts: rigAttempts,
		},
		{name: "one permanent error", fault: errorsFor(isPoison, "no", `,"permanent":true`), requests: forEver, dead: poison, status: 200, attempts: 1},
		{
			name: "a permanent error that reads like a duplicate", fault: errorsFor(isPoison, "returned more than one Message", `,"permanent":true`),
			requests: forEver, dead: poison, status: 200, attempts: 1,
		},
		{
			name:  "a conversation that is gone, with nothing stored before",
			fault: errorsFor(func(n string) bool { return strings.HasPrefix(n, "c/") }, "gone", `,"permanent":true`), requests: forEver, cold: true,
			dead: []string{"c/0", "c/1", "c/2", "c/3", "c/4", "c/5", "c/6", "c/7", "c/8", "c/9"}, status: 200, attempts: 1,
		},
		{name: "an error that means stored", fault: storing(errorsFor(everything, "get() returned more than one Message -- it returned 2!", "")), requests: 3},
		{name: "that error among others", fault: storing(errorsFor(isPoison, "get() returned more than one Message -- it returned 2!", "")), requests: forEver},
	}
}

// refusals returns responses that refuse a whole batch.
func refusals() []scenario {
	poison, three := []string{"a/5"}, []string{"a/5", "b/5", "c/5"}
	return []scenario{
		{name: "400 for everything, as with a wrong ALLOWED_HOSTS", fault: says(400, "Bad Request"), requests: 8},
		{name: "400 for everything, with nothing stored before", fault: says(400, "Bad Request"), requests: 8, cold: true},
		{name: "422 for everything", fault: says(422, "no"), requests: 30},
		{name: "413 for everything", fault: says(413, "no"), requests: 30},
		{name: "400 for one message", fault: refuses(hasPoison, 400), requests: forEver, dead: poison, status: 400, attempts: 2},
		{name: "413 for one message", fault: refuses(hasPoison, 413), requests: forEver, dead: poison, status: 413, attempts: 2},
		{name: "422 for one message", fault: refuses(hasPoison, 422), requests: forEver, dead: poison, status: 422, attempts: 2},
		{name: "400 for one message of each conversation", fault: refuses(spread, 400), requests: forEver, dead: three, status: 400, attempts: 2},
		{name: "400 for one message, with nothing stored before", fault: refuses(hasPoison, 400), requests: forEver, dead: poison, cold: true, status: 400},
		{name: "413 for more than three", fault: refuses(func(b []sent) bool { return len(b) > 3 }, 413), requests: forEver},
		{name: "413 for more than a kilobyte", fault: refuses(func(b []sent) bool {
			size := 0
			for _, m := range b {
				size += len(m.Raw)
			}
			return size > 1<<10
		}, 413), requests: forEver},
	}
}

// broken returns responses that are too long, too slow, or missing.
func broken() []scenario {
	good := func(n int) string { return fmt.Sprintf(`{"persisted":%d}`, n) }
	return []scenario{
		{name: "a response of 100 MB", fault: floods(200), requests: 2},
		{name: "a refusal of 100 MB", fault: floods(500), requests: 2},
		{name: "a compressed bomb", fault: bomb, requests: 2},
		{name: "a header of a megabyte", fault: says(200, "", "X-Long", strings.Repeat("x", 1<<20)), requests: 2},
		{name: "bytes that are not HTTP", fault: raw("SSH-2.0-OpenSSH_9.9\r\n\r\n"), requests: 3},
		{name: "stored, and half of the response", fault: storing(raw("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"persisted\":")), requests: 3},
		{name: "a response byte by byte", fault: drip, requests: 2},
		{name: "stored, then 500", fault: storing(says(500, "")), requests: 3},
		{name: "stored, then a login page", fault: storing(says(200, "<html>")), requests: 3},
		{name: "silence", fault: silence, requests: 2},
		{name: "stored, then silence", fault: storing(silence), requests: 2},
		{name: "stored, then reset", fault: storing(resetConnection), requests: 3},
		{name: "reset before", fault: resetConnection, requests: 3},
		{name: "half stored, then 500", fault: func(d *django, w http.ResponseWriter, _ *http.Request, batch []sent) {
			d.store(batch[:len(batch)/2])
			http.Error(w, "", http.StatusInternalServerError)
		}, requests: 3},
		{name: "the connection closed after each response", fault: func(d *django, w http.ResponseWriter, r *http.Request, batch []sent) {
			w.Header().Set("Connection", "close")
			storing(counts(good))(d, w, r, batch)
		}, requests: forEver},
		{name: "the connection cut after each response", fault: func(d *django, w http.ResponseWriter, r *http.Request, batch []sent) {
			d.store(batch)
			body := good(len(batch))
			raw(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body))(d, w, r, batch)
		}, requests: forEver},
		{name: "the connection cut at the next request", fault: cutAtTheNext, requests: 4},
	}
}
