package persist_test

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/persist"
)

var (
	_ persist.ProgressStore = (*memoryStore)(nil)
	_ persist.JobStore      = (*memoryStore)(nil)
	_ persist.DeadLetters   = (*memoryStore)(nil)
)

var errFull = messaging.Errorf(messaging.CodeDiskFull, "the disk is full")

// memoryStore stores dead letters, jobs and the position in memory and implements the
// interfaces of the package. Its lock makes each commit atomic.
type memoryStore struct {
	mu       sync.Mutex
	position messaging.Position
	jobs     map[string][]byte
	running  map[string]bool // jobs that have not ended
	letters  map[letterKey]*memoryLetter
	commits  int
	// fail is the error of changes to dead letters, and failAll of any change; nil
	// means success.
	fail, failAll error
	// requeued are the messages that returned to queues. refusal is why none can; ""
	// for no refusal.
	requeued []string
	refusal  string
	// claiming is called before a claim, within its commit.
	claiming func()
	// perCommit is how long a commit takes.
	perCommit time.Duration
}

// letterKey is the part that failures of one dead letter have in common.
type letterKey struct {
	kind     messaging.DeadLetterKind
	sequence uint64
	reason   string
}

type memoryLetter struct {
	messaging.DeadLetter

	recipients map[messaging.UserID]*memoryRecipient
}

type memoryRecipient struct {
	message messaging.Message
	job     string // the job that claims it
	refused string // the job in which it was last refused
}

func newMemoryStore() *memoryStore {
	return &memoryStore{jobs: make(map[string][]byte), running: make(map[string]bool), letters: make(map[letterKey]*memoryLetter)}
}

// change makes one commit. do changes dead letters; nil changes none.
func (s *memoryStore) change(p messaging.Progress, do func()) error {
	time.Sleep(s.perCommit)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := cmp.Or(s.failAll, s.fail); err != nil && (do != nil || s.failAll != nil) {
		return err
	}
	s.commits++
	if do != nil {
		do()
	}
	if p.Position != nil {
		s.position = *p.Position
	}
	if p.Job != "" {
		s.jobs[p.Job], s.running[p.Job] = slices.Clone(p.Record), !p.Ended
	}
	return nil
}

func (s *memoryStore) setFail(letters, all error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail, s.failAll = letters, all
}

func (s *memoryStore) Position() (messaging.Position, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.position, nil
}

func (s *memoryStore) SaveProgress(p messaging.Progress) error { return s.change(p, nil) }

func (s *memoryStore) AddDeadLetters(letters []messaging.DeadLetter, p messaging.Progress) error {
	return s.change(p, func() {
		for i := range letters {
			s.addLocked(letters[i])
		}
	})
}

// addLocked adds a recipient. A claimed recipient stays in its letter; one with another
// reason moves.
func (s *memoryStore) addLocked(d messaging.DeadLetter) {
	k, user := letterKey{d.Kind, d.Message.Position.Sequence, d.Reason}, d.Message.Receiver.User
	for other, l := range s.letters {
		r := l.recipients[user]
		switch {
		case r == nil || other.kind != k.kind || other.sequence != k.sequence:
		case other == k || s.running[r.job]:
			return
		default:
			s.removeLocked(other, user)
		}
	}
	l := s.letters[k]
	if l == nil {
		l = &memoryLetter{DeadLetter: d, recipients: make(map[messaging.UserID]*memoryRecipient)}
		l.ID = messaging.DeadLetterID(d.Kind, d.Message.ID)
		s.letters[k] = l
	}
	l.Attempts = max(l.Attempts, d.Attempts)
	l.recipients[user] = &memoryRecipient{message: d.Message}
}

func (s *memoryStore) removeLocked(k letterKey, user messaging.UserID) {
	l := s.letters[k]
	if l == nil {
		return
	}
	delete(l.recipients, user)
	if len(l.recipients) == 0 {
		delete(s.letters, k)
	}
}

func (s *memoryStore) Jobs() (map[string][]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.jobs), nil
}

func (s *memoryStore) ForgetJob(id string) error {
	return s.change(messaging.Progress{}, func() {
		delete(s.jobs, id)
		delete(s.running, id)
	})
}

func (s *memoryStore) ListDeadLetters(f messaging.DeadLetterFilter) (page messaging.DeadLetterPage, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	letters := slices.SortedFunc(maps.Values(s.letters), func(a, b *memoryLetter) int { return cmp.Compare(a.ID, b.ID) })
	for _, l := range letters {
		if f.Kind != "" && l.Kind != f.Kind {
			continue
		}
		page.Total++
		if l.ID <= f.After || (f.Reason != "" && l.Reason != f.Reason) {
			continue
		}
		if n := len(page.DeadLetters); n == f.Limit {
			page.Next = page.DeadLetters[n-1].ID
			continue
		}
		page.DeadLetters = append(page.DeadLetters, l.shown())
	}
	return page, nil
}

func (l *memoryLetter) shown() messaging.DeadLetter {
	d := l.DeadLetter
	d.Recipients = len(l.recipients)
	return d
}

func (s *memoryStore) FindDeadLetter(id string) (messaging.DeadLetter, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.letters {
		if l.ID == id {
			return l.shown(), true, nil
		}
	}
	return messaging.DeadLetter{}, false, nil
}

func (s *memoryStore) DeadLetterAt(k messaging.DeadLetterKey) (messaging.DeadLetter, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.letters {
		if l.Key() == k {
			return l.shown(), true, nil
		}
	}
	return messaging.DeadLetter{}, false, nil
}

func (s *memoryStore) NextDeadLetters(q messaging.DeadLetterScan) (letters []messaging.DeadLetter, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	byKey := func(a, b messaging.DeadLetterKey) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Sequence, b.Sequence), cmp.Compare(a.Reason, b.Reason))
	}
	for _, l := range s.letters {
		if (q.Kind == "" || l.Kind == q.Kind) && (q.Reason == "" || l.Reason == q.Reason) && byKey(l.Key(), q.After) > 0 {
			letters = append(letters, l.shown())
		}
	}
	slices.SortFunc(letters, func(a, b messaging.DeadLetter) int { return byKey(a.Key(), b.Key()) })
	return letters[:min(len(letters), q.Limit)], nil
}

func (s *memoryStore) DeadRecipients(d *messaging.DeadLetter, after messaging.UserID, limit int) (list []messaging.DeadRecipient, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.letters[letterKey{d.Kind, d.Message.Position.Sequence, d.Reason}]
	if l == nil {
		return nil, nil
	}
	for _, user := range slices.Sorted(maps.Keys(l.recipients)) {
		if user > after && len(list) < limit {
			list = append(list, messaging.DeadRecipient{Kind: d.Kind, Reason: d.Reason, Message: l.recipients[user].message})
		}
	}
	return list, nil
}

func keyOf(r *messaging.DeadRecipient) letterKey {
	return letterKey{r.Kind, r.Message.Position.Sequence, r.Reason}
}

func (s *memoryStore) recipientLocked(r *messaging.DeadRecipient) *memoryRecipient {
	if l := s.letters[keyOf(r)]; l != nil {
		return l.recipients[r.Message.Receiver.User]
	}
	return nil
}

func (s *memoryStore) ClaimDeadLetters(job string, recipients []messaging.DeadRecipient) (claims []messaging.Claim, err error) {
	err = s.change(messaging.Progress{}, func() {
		if s.claiming != nil {
			s.claiming()
		}
		for i := range recipients {
			r, claim := s.recipientLocked(&recipients[i]), messaging.Claimed
			switch {
			case r == nil:
				claim = messaging.ClaimGone
			case r.refused == job:
				claim = messaging.ClaimRefused
			case r.job != "" && r.job != job && s.running[r.job]:
				claim = messaging.ClaimedElsewhere
			default:
				r.job, r.refused = job, ""
			}
			claims = append(claims, claim)
		}
	})
	return claims, err
}

func (s *memoryStore) FinishRedrive(job string, stored []messaging.DeadRecipient, refused []messaging.DeadRefusal, kept []messaging.DeadRecipient, p messaging.Progress) error {
	return s.change(p, func() {
		for i := range stored {
			if r := s.recipientLocked(&stored[i]); r != nil && r.job == job {
				s.removeLocked(keyOf(&stored[i]), stored[i].Message.Receiver.User)
			}
		}
		for i := range refused {
			if r := s.recipientLocked(&refused[i].Recipient); r != nil && r.job == job {
				s.moveLocked(&refused[i], job)
			}
		}
		for i := range kept {
			if r := s.recipientLocked(&kept[i]); r != nil && r.job == job {
				r.job = ""
			}
		}
	})
}

// moveLocked moves a recipient to the letter of its new reason, which may be its
// current letter.
func (s *memoryStore) moveLocked(x *messaging.DeadRefusal, job string) {
	k := keyOf(&x.Recipient)
	attempts := s.letters[k].Attempts + 1
	s.removeLocked(k, x.Recipient.Message.Receiver.User)
	s.addLocked(messaging.DeadLetter{
		Kind: k.kind, Reason: x.Reason, StatusCode: x.StatusCode, FailedAt: x.FailedAt, Attempts: attempts, Message: x.Recipient.Message,
	})
	again := letterKey{k.kind, k.sequence, x.Reason}
	s.letters[again].recipients[x.Recipient.Message.Receiver.User].refused = job
}

func (s *memoryStore) RequeueDeadLetters(recipients []messaging.DeadRecipient, p messaging.Progress) (results []messaging.RequeueResult, err error) {
	err = s.change(p, func() {
		for i := range recipients {
			m := &recipients[i].Message
			switch {
			case s.recipientLocked(&recipients[i]) == nil:
				results = append(results, messaging.RequeueResult{Gone: true})
			case s.refusal != "":
				results = append(results, messaging.RequeueResult{Refusal: s.refusal})
			default:
				s.removeLocked(keyOf(&recipients[i]), m.Receiver.User)
				s.requeued = append(s.requeued, string(m.Receiver.User)+":"+name(m.Body))
				results = append(results, messaging.RequeueResult{})
			}
		}
	})
	return results, err
}

// drop removes a dead letter, as a DELETE request does.
func (s *memoryStore) drop(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, l := range s.letters {
		if l.ID == id {
			delete(s.letters, k)
		}
	}
}

// count returns how many dead letters of a kind there are.
func (s *memoryStore) count(kind messaging.DeadLetterKind) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range s.letters {
		if k.kind == kind {
			n++
		}
	}
	return n
}

// claims returns how many recipients are claimed by jobs that have not ended.
func (s *memoryStore) claims() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.letters {
		for _, r := range l.recipients {
			if s.running[r.job] {
				n++
			}
		}
	}
	return n
}

// wantNoClaim checks that no job claims a dead letter.
func (s *memoryStore) wantNoClaim(tb testing.TB) {
	tb.Helper()
	if n := s.claims(); n > 0 {
		tb.Errorf("%d recipients of dead letters are still claimed", n)
	}
}
