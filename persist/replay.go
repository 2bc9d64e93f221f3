package persist

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/stayafrica/messaging"
)

// DefaultReplayRate is the default rate of a replay in messages per second.
const DefaultReplayRate = 1000

// Replay starts a job that sends a part of the log to the backend again, under the same
// ids, concurrently with the drain. It skips messages with "persist": false, as the
// drain does.
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
		return messaging.Job{}, messaging.Errorf(messaging.CodeInvalidField, "the log has no messages in that range")
	}
	request.FromSequence, request.ToSequence = first, last
	r := record{Replay: &request, Position: messaging.Position{Sequence: first}}
	r.Kind, r.Total = messaging.Replay, last-first+1
	return j.start(r)
}

// span returns the range of sequences that a request selects, limited to what the log
// has.
func (j *Jobs) span(q *messaging.ReplayRequest) (first, last uint64, err error) {
	h := j.config.History
	first, last = max(q.FromSequence, h.FirstSequence()), h.Durable()
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

// replay runs one replay. A replay is a drain over a part of the log with a position of
// its own, so order, retries, halving and dead letters work in the same way.
func (j *Jobs) replay(ctx context.Context, x *job) error {
	if j.config.Sink == nil {
		return j.waitForBackend(ctx, x)
	}
	request := x.record.Replay
	slice := &slicedLog{History: j.config.History, request: request}
	sink := newRateLimitedSink(j.config.Sink, request.Rate, j.config.BatchSize)
	store := &replayProgress{jobs: j, job: x, goneBefore: x.record.Gone}
	drain, err := New(Config{
		Source: slice, Store: store, Sink: sink, Evidence: j.config.Evidence, Until: request.ToSequence, Filter: wants(request),
		BatchSize: sink.batch, BatchBytes: j.config.BatchBytes, Concurrency: 1, MaxAttempts: j.config.MaxAttempts,
		MaxBackoff: j.config.MaxBackoff, Linger: time.Millisecond, Grace: time.Millisecond, Logger: j.logger.With("job", x.record.ID),
	})
	if err != nil {
		return err
	}
	store.drain = drain
	defer func() { j.replayed.Add(drain.Stats().Persisted) }()
	if err := drain.Run(ctx); err != nil {
		return err
	}
	return ctx.Err()
}

// slicedLog is a log that ends at a given sequence.
type slicedLog struct {
	History

	request *messaging.ReplayRequest
}

// Durable implements [Source]: it returns the end of the part.
func (s *slicedLog) Durable() uint64 { return s.request.ToSequence }

// Wait implements [Source]: a part does not grow.
func (s *slicedLog) Wait(ctx context.Context, _ messaging.Position) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

// Read implements [Source].
func (s *slicedLog) Read(from messaging.Position, limit, maxBytes int) ([]messaging.Message, messaging.Position, error) {
	end := messaging.Position{Sequence: s.request.ToSequence + 1}
	if !from.Before(end) {
		return nil, from, nil
	}
	page, next, err := s.History.Read(from, limit, maxBytes)
	if err != nil {
		return nil, from, err
	}
	page = slices.DeleteFunc(page, func(m messaging.Message) bool { return !m.Position.Before(end) })
	if end.Before(next) {
		next = end
	}
	return page, next, nil
}

// wants returns the filter of a request: the messages of one conversation or one user,
// or all.
func wants(q *messaging.ReplayRequest) func(m *messaging.Message) bool {
	return func(m *messaging.Message) bool {
		return (q.Conversation == "" || m.Conversation == q.Conversation) && (q.User == "" || m.Receiver.User == q.User)
	}
}

// rateLimitedSink limits the messages per second.
type rateLimitedSink struct {
	Sink

	limiter *rate.Limiter
	batch   int
}

// minBatchesPerSecond is the minimum number of batches into which one second of
// messages is divided.
const minBatchesPerSecond = 5

func newRateLimitedSink(sink Sink, perSecond, batch int) *rateLimitedSink {
	batch = min(batch, max(1, perSecond/minBatchesPerSecond))
	return &rateLimitedSink{Sink: sink, limiter: rate.NewLimiter(rate.Limit(perSecond), batch), batch: batch}
}

// Deliver implements [Sink].
func (s *rateLimitedSink) Deliver(ctx context.Context, batch []messaging.Message) Response {
	if err := s.limiter.WaitN(ctx, len(batch)); err != nil {
		return Response{Class: Unreached, Reason: "the job was stopped"}
	}
	return s.Sink.Deliver(ctx, batch)
}

// replayProgress stores the progress of a replay in its job.
type replayProgress struct {
	jobs       *Jobs
	job        *job
	drain      *Drain
	goneBefore uint64 // value of Gone before this run
}

// Position implements [ProgressStore].
func (s *replayProgress) Position() (messaging.Position, error) {
	s.jobs.mu.Lock()
	defer s.jobs.mu.Unlock()
	return s.job.record.Position, nil
}

// SaveProgress implements [ProgressStore].
func (s *replayProgress) SaveProgress(p messaging.Progress) error {
	return s.jobs.commit(s.job, func(r *record) { s.advance(r, p) }, s.jobs.config.Store.SaveProgress)
}

// AddDeadLetters implements [ProgressStore].
func (s *replayProgress) AddDeadLetters(letters []messaging.DeadLetter, p messaging.Progress) error {
	return s.jobs.commit(s.job, func(r *record) {
		r.Refused += uint64(len(letters))
		s.advance(r, p)
	}, func(p messaging.Progress) error { return s.jobs.config.Letters.AddDeadLetters(letters, p) })
}

// advance sets a record to the drain's progress.
func (s *replayProgress) advance(r *record, p messaging.Progress) {
	r.Position = *p.Position
	r.Done = min(r.Total, r.Position.Sequence-r.Replay.FromSequence)
	r.Gone = s.goneBefore + s.drain.Gone()
	r.Failed = r.Refused + r.Gone
	var sentences []string
	switch {
	case r.Refused == 1:
		sentences = append(sentences, "1 message was refused: see the dead letters")
	case r.Refused > 1:
		sentences = append(sentences, fmt.Sprintf("%d messages were refused: see the dead letters", r.Refused))
	}
	switch {
	case r.Gone == 1:
		sentences = append(sentences, "1 sequence was trimmed by retention before the replay read it")
	case r.Gone > 1:
		sentences = append(sentences, fmt.Sprintf("%d sequences were trimmed by retention before the replay read them", r.Gone))
	}
	r.Error = strings.Join(sentences, "; ")
}
