// Package traffic is what the benchmarks send: the same messages to the service
// and to those that it is compared with. bench/send.lua sends the same with wrk.
package traffic

import (
	"bytes"
	"fmt"
	"strings"
)

// Users is how many users messages go to, unless a workload says otherwise.
const Users = 10_000

var padding = strings.Repeat("x", 60)

// Priorities are the service's three, in their order.
var Priorities = [...]string{"high", "normal", "low"}

// Message is a send's body of about 220 bytes to a user, whose number decides
// the priority.
func Message(user int) []byte { return AppendMessage(nil, user) }

// AppendMessage appends what [Message] gives.
func AppendMessage(b []byte, user int) []byte {
	return fmt.Appendf(b, `{"conversation_id":%d,"sender_id":%d,"receiver_id":%d,"text":"Hello from the load generator %s","message_type":"text","priority":"%s","metadata":{"n":%d}}`,
		user, user+1, user, padding, Priorities[Priority(user)], user)
}

// Priority is the index in [Priorities] of the messages to a user.
func Priority(user int) int { return user % len(Priorities) }

// User is to whom the n-th call of a worker goes, out of so many users: spread
// over all of them, the same in each run.
func User(worker, n, users int) int { return (worker*7919 + n*104_729) % users }

// Lines is a batch as NDJSON: one message to each of the users.
func Lines(users []int) []byte {
	var b bytes.Buffer
	for _, u := range users {
		b.Write(Message(u))
		b.WriteByte('\n')
	}
	return b.Bytes()
}
