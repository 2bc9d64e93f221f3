package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
)

// Plan derives all traffic of a run from its seed: generating a call again gives the
// same call.
type Plan struct {
	Seed          uint64
	Users         int
	Conversations int
	// Text is the maximum length of a text in characters, up to 32,000; most texts are
	// far shorter.
	Text int
}

func (p Plan) valid() bool {
	return p.Users > 0 && p.Conversations > 0 && p.Text > 0 && p.Text <= len(padding)
}

// kind is the kind of a call.
type kind uint8

const (
	single kind = iota
	batch
	broadcast
)

// Limits of one call. A broadcast of this size enters the queues in its own commit.
const (
	maxBatch      = 40
	maxRecipients = 20
)

// Ref identifies a message in the plan: its call, and its index within a batch. The
// copies of a broadcast share one Ref and differ by user.
type Ref struct {
	Call  uint64
	Index int
}

func (r Ref) String() string { return strconv.FormatUint(r.Call, 10) + "." + strconv.Itoa(r.Index) }

func parseRef(s string) (r Ref, ok bool) {
	call, index, ok := strings.Cut(s, ".")
	if !ok {
		return r, false
	}
	var err error
	if r.Call, err = strconv.ParseUint(call, 10, 64); err != nil {
		return r, false
	}
	r.Index, err = strconv.Atoi(index)
	return r, err == nil && r.Index >= 0 && r.Index < maxBatch
}

// call is one request of the plan.
type call struct {
	plan   Plan
	number uint64
	kind   kind
	// messages are those of a single send or a batch. A broadcast has one, without a
	// user, that is copied to users.
	messages []message
	users    []int
	// keyed calls have an idempotency key and are repeated until answered.
	keyed bool
	// lines sends a batch as NDJSON.
	lines bool
}

// message is one message as it is sent.
type message struct {
	ref          Ref
	user         int
	priority     int
	conversation string // "" for none
	// poison asks Django for a permanent refusal. delayed is due one second later.
	// known is marked as stored in Django already.
	poison, delayed, known bool
	// sent is the body. kept is the part that the service passes on, without the
	// members that control the service.
	sent, kept []byte
	// defaults are the members that the service adds if the client omitted them, as the
	// service writes them.
	defaults string
}

// call returns the call with a number.
func (p Plan) call(number uint64) call {
	random := rand.New(rand.NewPCG(p.Seed, number)) //nolint:gosec // chance, not secrecy
	c := call{plan: p, number: number, keyed: random.IntN(3) == 0}
	count := 1
	switch n := random.IntN(100); {
	case n < 4:
		c.kind = broadcast
		c.users = random.Perm(p.Users)[:1+random.IntN(min(p.Users, maxRecipients))]
	case n < 12:
		c.kind, count, c.lines = batch, 1+random.IntN(maxBatch), random.IntN(2) == 0
	}
	for i := range count {
		c.messages = append(c.messages, p.message(random, Ref{number, i}, c.kind))
	}
	return c
}

var priorities = [...]string{"high", "normal", "low"}

// Texts and metadata that a careless re-encoding would change: escapes, numbers beyond
// 2^53, white space, the order of members.
var (
	texts = [...]string{
		`plain`, `caf\u00e9`, `café`, `a\/b`, `\ud83d\ude00 😀`, `line\nline`, `\"quoted\"`, `<b>&amp;</b>`, `مرحبا`, `trailing \\`,
	}
	metadatas = [...]string{`{}`, `{"n":9007199254740993}`, `{"x":1.0e2, "y" : [1,2, 3]}`, `{"z":{"b":null,"a":true}}`}
	padding   = strings.Repeat("lorem ipsum dolor sit amet. ", 32_000/28+1)
)

func (p Plan) message(random *rand.Rand, ref Ref, k kind) message {
	m := message{ref: ref, user: random.IntN(p.Users), priority: random.IntN(len(priorities))}
	steering := ""
	switch n := random.IntN(400); {
	case k != single:
	case n == 0:
		m.poison = true
	case n < 10:
		m.delayed, steering = true, `"delay_seconds":1,`
	case n < 20:
		m.known, steering = true, `"persist":false,`
	}
	if k != broadcast || random.IntN(2) == 0 {
		m.conversation = strconv.Itoa(1 + random.IntN(p.Conversations))
	}
	var b bytes.Buffer
	if m.conversation != "" {
		b.WriteString(`"conversation_id":` + m.conversation + `,`)
	}
	b.WriteString(`"sender_id":"ledger",`)
	if k != broadcast {
		b.WriteString(`"receiver_id":` + quotedUser(m.user) + `,`)
	}
	fmt.Fprintf(&b, `"ledger":"%s","text":"%s %s"`, ref, texts[random.IntN(len(texts))], padding[:random.IntN(1+random.IntN(p.Text))])
	switch {
	case m.poison:
		fmt.Fprintf(&b, `,"message_type":"text", "priority":"%s","metadata":{"poison":true}}`, priorities[m.priority])
	case random.IntN(8) == 0:
		m.priority, m.defaults = 1, `"message_type":"text","priority":"normal","metadata":{},`
		b.WriteString(`,"extra":[ ]}`)
	default:
		fmt.Fprintf(&b, `,"message_type":"text", "priority":"%s","metadata":%s}`, priorities[m.priority], metadatas[random.IntN(len(metadatas))])
	}
	m.sent, m.kept = []byte("{"+steering+b.String()), []byte("{"+b.String())
	return m
}

// userName returns a user's name in a path. Some are numbers, some strings.
func userName(user int) string {
	if user%2 == 0 {
		return strconv.Itoa(1000 + user)
	}
	return "user-" + strconv.Itoa(user)
}

// quotedUser returns a user's name in JSON.
func quotedUser(user int) string {
	if user%2 == 0 {
		return userName(user)
	}
	return `"` + userName(user) + `"`
}

// userNumber is the inverse of userName.
func (p Plan) userNumber(name string) (int, bool) {
	text, named := strings.CutPrefix(name, "user-")
	n, err := strconv.Atoi(text)
	if !named {
		n -= 1000
	}
	return n, err == nil && n >= 0 && n < p.Users && userName(n) == name
}

// request returns the request of the call.
func (c *call) request() (path, media string, body []byte) {
	media = "application/json"
	switch c.kind {
	case single:
		return "/api/messages/send", media, c.messages[0].sent
	case broadcast:
		body = append(body, `{"message":`...)
		body = append(body, c.messages[0].sent...)
		body = append(body, `,"user_ids":[`...)
		for i, user := range c.users {
			if i > 0 {
				body = append(body, ',')
			}
			body = append(body, quotedUser(user)...)
		}
		return "/api/messages/broadcast", media, append(body, "]}"...)
	case batch:
	}
	bodies := make([][]byte, len(c.messages))
	for i := range c.messages {
		bodies[i] = c.messages[i].sent
	}
	if c.lines {
		return "/api/messages/batch", "application/x-ndjson", bytes.Join(bodies, []byte("\n"))
	}
	body = append([]byte(`{"messages":[`), bytes.Join(bodies, []byte(","))...)
	return "/api/messages/batch", media, append(body, "]}"...)
}

// key returns the call's idempotency key; empty for none.
func (c *call) key() string {
	if !c.keyed {
		return ""
	}
	return fmt.Sprintf("ledger-%x-%d", c.plan.Seed, c.number)
}

// item is one message for one user, which must be found exactly once.
type item struct {
	Ref
	user int
}

// items lists the items of the call.
func (c *call) items() []item {
	var list []item
	for _, user := range c.users {
		list = append(list, item{c.messages[0].ref, user})
	}
	if c.kind != broadcast {
		for i := range c.messages {
			list = append(list, item{c.messages[i].ref, c.messages[i].user})
		}
	}
	return list
}

// tail returns what follows the members that the service adds to each message, byte for
// byte, when a user receives it.
func (c *call) tail(it item) []byte {
	m := &c.messages[it.Index]
	var tail []byte
	if c.kind == broadcast {
		tail = append(tail, `"receiver_id":`+quotedUser(it.user)+`,`...)
	}
	return append(append(tail, m.defaults...), m.kept[1:]...)
}

// conversation returns the conversation whose order Django must see; "" for none: the
// copies of a broadcast without a conversation have no order.
func (c *call) conversation(it item) string { return c.messages[it.Index].conversation }

// digest returns the hash of a tail, which the files store.
func digest(tail []byte) uint64 {
	sum := sha256.Sum256(tail)
	return binary.BigEndian.Uint64(sum[:])
}
