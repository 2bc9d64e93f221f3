package persist

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/time/rate"

	"github.com/stayafrica/messaging"
)

// DefaultReplayRate is how many messages a second a replay sends where nothing
// else was asked for.
const DefaultReplayRate = 1000

// Replay starts to send a part of the log to the backend again, under the same
// ids, beside the drain. Messages that the backend had by itself ("persist":
// false) are left out, as they were the first time.
func (j *Jobs) Replay(request messaging.ReplayRequest) (messaging.Job, error) {
	if j.config.Sink == nil {
		return messaging.Job{}, messaging.Errorf(messaging.CodeInvalidField, "there is no backend to replay to: DJANGO_API_URL is off")
	}
	if request.Rate == 0 {
		request.Rate = DefaultReplayRate
	}
	first, last, err := j.span(&request)
	if err != nil {
		return messaging.Job{}, err
	}
	if first > last {
		return messaging.Job{}, messaging.Errorf(messaging.CodeInvalidField, "the log has nothing in that range")
	}
	request.FromSequence, request.ToSequence = first, last
	r := record{Replay: &request, Position: messaging.Position{Sequence: first}}
	r.Kind, r.Total = messaging.Replay, last-first+1
	return j.start(r)
}

// span gives the sequences that a request means, within what the log has.
func (j *Jobs) span(q *messaging.ReplayRequest) (first, last uint64, err error) {
	h := j.config.History
	first, last = max(q.FromSequence, h.Floor()), h.Durable()
	if !q.FromTime.IsZero() {
		at, err := h.SequenceAt(q.FromTime)
		if err != nil {
			return 0, 0, err
		}
		first = max(first, at)
	}
	if q.ToSequence > 0 {
		last = min(last, q.ToSequence)
	}
	if !q.ToTime.IsZero() {
		behind, err := h.SequenceAt(q.ToTime.Add(time.Millisecond))
		if err != nil {
			return 0, 0, err
		}
		last = min(last, behind-1)
	}
	return first, last, nil
}

// replay runs one: it is a drain of its own over a part of the log, with its
// own position, so that order, retries, halving and dead letters are the same.
func (j *Jobs) replay(ctx context.Context, x *job) error {
	if j.config.Sink == nil {
		return errNoBackend
	}
	request := x.record.Replay
	slice := &slicedLog{History: j.config.History, request: request}
	sink := newPacedSink(j.config.Sink, request.Rate, j.config.BatchSize)
	drain, err := New(Config{
		Source: slice, Ledger: &jobLedger{jobs: j, job: x}, Sink: sink, Evidence: j.config.Evidence, Until: request.ToSequence,
		BatchSize: sink.batch, BatchBytes: j.config.BatchBytes, Concurrency: 1, MaxAttempts: j.config.MaxAttempts,
		MaxBackoff: j.config.MaxBackoff, Linger: time.Millisecond, Grace: time.Millisecond, Logger: j.logger.With("job", x.record.ID),
	})
	if err != nil {
		return err
	}
	defer func() { j.replayed.Add(drain.Stats().Persisted) }()
	if err := drain.Run(ctx); err != nil {
		return err
	}
	return ctx.Err()
}

// slicedLog is a part of the log: up to a sequence, and of one conversation or
// user where one was asked for.
type slicedLog struct {
	History

	request *messaging.ReplayRequest
}

// Durable implements [Source]: the end of the part.
func (s *slicedLog) Durable() uint64 { return s.request.ToSequence }

// Wait implements [Source]: a part does not grow.
func (s *slicedLog) Wait(ctx context.Context, _ messaging.Position) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

// Read implements [Source]. A page may be empty before the end, when nothing in
// it was asked for.
func (s *slicedLog) Read(from messaging.Position, limit, maxBytes int) ([]messaging.Message, messaging.Position, error) {
	end := messaging.Position{Sequence: s.request.ToSequence + 1}
	if !from.Before(end) {
		return nil, from, nil
	}
	page, next, err := s.History.Read(from, limit, maxBytes)
	if err != nil {
		return nil, from, err
	}
	kept := page[:0]
	for i := range page {
		if page[i].Position.Before(end) && s.wants(&page[i]) {
			kept = append(kept, page[i])
		}
	}
	if end.Before(next) {
		next = end
	}
	return kept, next, nil
}

func (s *slicedLog) wants(m *messaging.Message) bool {
	return (s.request.Conversation == "" || m.Conversation == s.request.Conversation) &&
		(s.request.User == "" || m.Receiver.User == s.request.User)
}

// pacedSink delivers no more than so many messages a second.
type pacedSink struct {
	Sink

	limiter *rate.Limiter
	batch   int
}

// paces is in how many batches a second's messages go at the least.
const paces = 5

func newPacedSink(sink Sink, perSecond, batch int) *pacedSink {
	batch = min(batch, max(1, perSecond/paces))
	return &pacedSink{Sink: sink, limiter: rate.NewLimiter(rate.Limit(perSecond), batch), batch: batch}
}

// Deliver implements [Sink].
func (s *pacedSink) Deliver(ctx context.Context, batch []messaging.Message) Answer {
	if err := s.limiter.WaitN(ctx, len(batch)); err != nil {
		return Answer{Verdict: Unreached, Reason: "the job was stopped"}
	}
	return s.Sink.Deliver(ctx, batch)
}

// jobLedger keeps the position of a replay in its job.
type jobLedger struct {
	jobs *Jobs
	job  *job
}

// Position implements [Ledger].
func (l *jobLedger) Position() (messaging.Position, error) {
	l.jobs.mu.Lock()
	defer l.jobs.mu.Unlock()
	return l.job.record.Position, nil
}

// SavePosition implements [Ledger].
func (l *jobLedger) SavePosition(p messaging.Position) error {
	return l.jobs.progress(l.job, true, func(r *record) {
		r.Position = p
		r.Done = min(r.Total, p.Sequence-r.Replay.FromSequence)
	})
}

// AddDeadLetters implements [Ledger].
func (l *jobLedger) AddDeadLetters(letters []messaging.DeadLetter) error {
	if err := l.jobs.config.DeadLetters.AddDeadLetters(letters); err != nil {
		return err
	}
	return l.jobs.progress(l.job, false, func(r *record) {
		r.Failed += uint64(len(letters))
		r.Error = fmt.Sprintf("%d messages were refused: see the dead letters", r.Failed)
	})
}
