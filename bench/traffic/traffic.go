// Package traffic generates the traffic of the benchmarks: the same messages for the
// service and for the systems that it is compared with. bench/send.lua generates the
// same messages for wrk.
package traffic

import (
	"bytes"
	"fmt"
	"strings"
)

// Users is the default number of users that messages go to.
const Users = 10_000

var padding = strings.Repeat("x", 60)

// Priorities are the service's three priorities in order.
var Priorities = [...]string{"high", "normal", "low"}

// Message returns the body of a send, about 220 bytes, to a user, whose number
// determines the priority.
func Message(user int) []byte { return AppendMessage(nil, user) }

// AppendMessage appends the body that [Message] returns.
func AppendMessage(b []byte, user int) []byte {
	return fmt.Appendf(b, `{"conversation_id":%d,"sender_id":%d,"receiver_id":%d,"text":"Hello from the load generator %s","message_type":"text","priority":"%s","metadata":{"n":%d}}`,
		user, user+1, user, padding, Priorities[Priority(user)], user)
}

// Priority returns the index in [Priorities] of the messages to a user.
func Priority(user int) int { return user % len(Priorities) }

// User returns the user of the n-th call of a worker: evenly spread, and the same in
// each run.
func User(worker, n, users int) int { return (worker*7919 + n*104_729) % users }

// Lines returns a batch as NDJSON: one message to each of the users.
func Lines(users []int) []byte {
	var b bytes.Buffer
	for _, u := range users {
		b.Write(Message(u))
		b.WriteByte('\n')
	}
	return b.Bytes()
}
