package traffic

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// words are the most frequent words of everyday English, approximately in order of
// frequency.
var words = strings.Fields(`the be to of and a in that have I it for not on with he as you do at this but his by
from they we say her she or an will my one all would there their what so up out if about who get which go me when make
can like time no just him know take people into year your good some could them see other than then now look only come
its over think also back after use two how our work first well way even new want because any these give day most us
is are was were been has had did said made went came took money friend family school house night morning week month
today tomorrow yesterday please thanks hello sorry maybe really still again always never often soon later before while
where why here much many little big small long short high low right left old young early late next last every both
between under near far away home town city country water food market phone message call send meet wait start stop open
close buy sell pay price bring leave arrive travel bus train car road room bed table door window book story letter
question answer problem idea reason place part hand head eye face heart voice name word line number side end point case
group company team office job project plan report paper computer internet weather rain sun summer winter music film
game party birthday mother father brother sister child children woman man boy girl baby doctor teacher student driver
guest host booking stay check key address photo review breakfast dinner lunch coffee tea bread fish rice fruit garden
beach mountain river park bridge street corner station airport flight ticket passport bag clothes shoes weekend holiday
beautiful happy sad tired hungry ready busy free easy difficult important possible different same sure true clear quick
slow hot cold warm quiet loud clean dirty full empty cheap expensive safe dangerous strong weak`)

// Prose generates chat-like sentences: everyday English words with frequencies by
// Zipf's law, with lengths from one word to a paragraph, 150 bytes on average. It
// compresses about as well as ordinary text, unlike a repeated line.
type Prose struct {
	rand *rand.Rand
	zipf *rand.Zipf
}

// NewProse returns a source of prose for a seed.
func NewProse(seed uint64) *Prose {
	r := rand.New(rand.NewPCG(seed, 0))                                         //nolint:gosec // chance, not secrecy
	return &Prose{rand: r, zipf: rand.NewZipf(r, 1.1, 8, uint64(len(words)-1))} //nolint:gosec // some hundred
}

// Append appends some sentences.
func (p *Prose) Append(b []byte) []byte {
	const most = 60
	left := 1 + p.rand.IntN(most)
	for sentence := 0; left > 0; sentence++ {
		n := min(left, 3+p.rand.IntN(12))
		left -= n
		if sentence > 0 {
			b = append(b, ' ')
		}
		b = p.sentence(b, n)
	}
	return b
}

func (p *Prose) sentence(b []byte, n int) []byte {
	for i := range n {
		word := words[p.zipf.Uint64()]
		switch {
		case i == 0:
			word = strings.ToUpper(word[:1]) + word[1:]
		case p.rand.IntN(9) == 0:
			b = append(b, ", "...)
		default:
			b = append(b, ' ')
		}
		b = append(b, word...)
	}
	return append(b, ".?!"[p.rand.IntN(3)])
}

// AppendMessage appends the body of a send with prose as its text.
func (p *Prose) AppendMessage(b []byte, user int) []byte {
	b = fmt.Appendf(b, `{"conversation_id":%d,"sender_id":%d,"receiver_id":%d,"text":"`, user, user+1, user)
	b = p.Append(b)
	return fmt.Appendf(b, `","message_type":"text","priority":"%s","metadata":{}}`, Priorities[Priority(user)])
}
