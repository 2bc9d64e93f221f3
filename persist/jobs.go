package persist

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/gofrs/uuid/v5"

	"github.com/stayafrica/messaging"
)

// Bounds of jobs.
const (
	// maxRunning is how many jobs run at once, maxKept how many that have ended
	// are remembered.
	maxRunning = 8
	maxKept    = 100
	// progressInterval is how often the progress of a redrive is saved.
	progressInterval = time.Second
)

// record is a job as it is kept: what was asked for, and how far it is.
type record struct {
	messaging.Job

	Replay  *messaging.ReplayRequest
	Redrive *messaging.RedriveRequest
	// Position is where a replay goes on, and Cursor the dead letter behind
	// which a redrive does.
	Position messaging.Position
	Cursor   string
}

// JobStore keeps jobs, in words of their own. SaveJob returns when the job is
// durable.
type JobStore interface {
	Jobs() (map[string][]byte, error)
	SaveJob(id string, job []byte) error
	ForgetJob(id string) error
}

// DeadLetters is what a redrive works on.
type DeadLetters interface {
	ListDeadLetters(f messaging.DeadLetterFilter) (messaging.DeadLetterPage, error)
	FindDeadLetter(id string) (messaging.DeadLetter, bool, error)
	DeadCopies(letter *messaging.DeadLetter, after messaging.UserID, limit int) ([]messaging.DeadCopy, error)
	SettleDead(copies []messaging.DeadCopy) error
	RefuseAgain(dead messaging.DeadCopy, reason string, status int, at time.Time) error
	AddDeadLetters(letters []messaging.DeadLetter) error
}

// History is the log as a replay reads it.
type History interface {
	Source
	// SequenceAt gives the first sequence whose message was created at or after a
	// time.
	SequenceAt(at time.Time) (uint64, error)
}

// JobsConfig says what jobs work on. Zero values take the defaults named.
type JobsConfig struct {
	Store       JobStore
	History     History
	DeadLetters DeadLetters
	// Evidence is what the drain has seen of the backend; nil is none.
	Evidence *Evidence
	// Sink is the backend; nil where there is none, and then what would go to it
	// fails.
	Sink Sink
	// Requeue puts a message back into its receiver's queue, or says why not. It
	// calls settle when the entry is durable; no dead letter of the message is
	// written meanwhile.
	Requeue func(m *messaging.Message, settle func() error) (refusal string, err error)
	// BatchSize (500), BatchBytes (1 MiB), MaxAttempts (5) and MaxBackoff (30 s)
	// are as those of the drain.
	BatchSize, BatchBytes, MaxAttempts int
	MaxBackoff                         time.Duration
	Logger                             *slog.Logger
}

// Jobs runs redrives and replays beside the drain. Make it with [NewJobs], run
// it with [Jobs.Run]; the other methods may be called at any time.
type Jobs struct {
	config   JobsConfig
	logger   *slog.Logger
	replayed atomic.Uint64
	redriven atomic.Uint64
	started  chan struct{} // tells Run that there is a new job

	mu   sync.Mutex
	jobs map[string]*job
}

// job is a job in memory.
type job struct {
	record  record
	cancel  context.CancelFunc // nil while it does not run
	stopped bool               // it was cancelled
	// began and base are when this run began and what was done then, for the
	// estimate.
	began time.Time
	base  uint64
}

// NewJobs reads the jobs that are kept.
func NewJobs(config JobsConfig) (*Jobs, error) {
	config.BatchSize = cmp.Or(config.BatchSize, 500)
	config.BatchBytes = cmp.Or(config.BatchBytes, 1<<20)
	config.MaxAttempts = cmp.Or(config.MaxAttempts, 5)
	config.MaxBackoff = cmp.Or(config.MaxBackoff, 30*time.Second)
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	kept, err := config.Store.Jobs()
	if err != nil {
		return nil, err
	}
	j := &Jobs{config: config, logger: config.Logger, started: make(chan struct{}, 1), jobs: make(map[string]*job)}
	for id, text := range kept {
		x := new(job)
		if err := json.Unmarshal(text, &x.record); err != nil {
			return nil, fmt.Errorf("the job %s cannot be read: %w", id, err)
		}
		if x.record.ID != id {
			return nil, fmt.Errorf("%w: %s says that it is %q", errOtherJob, id, x.record.ID)
		}
		j.jobs[id] = x
	}
	return j, nil
}

func (j *Jobs) save(r *record) error {
	text, err := json.Marshal(r)
	if err != nil {
		return messaging.Internal(err)
	}
	return j.config.Store.SaveJob(r.ID, text)
}

// Run runs jobs until the context ends, and joins them.
func (j *Jobs) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	for {
		for _, x := range j.startable(ctx) {
			running.Go(func() { j.work(x.ctx, x.job) })
		}
		select {
		case <-ctx.Done():
			return nil
		case <-j.started:
		}
	}
}

var errOtherJob = errors.New("a job is not the one that was saved")

// start makes a job durable and lets it run.
func (j *Jobs) start(r record) (messaging.Job, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return messaging.Job{}, messaging.Internal(err)
	}
	r.ID, r.State, r.CreatedAt = id.String(), messaging.JobRunning, time.Now()
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.runningLocked() >= maxRunning {
		err := messaging.Errorf(messaging.CodeTooManyRequests, "%d jobs are running, which is as many as there may be: wait for one, or cancel one", maxRunning)
		err.RetryAfter = 10 * time.Second
		return messaging.Job{}, err
	}
	if err := j.save(&r); err != nil {
		return messaging.Job{}, err
	}
	x := &job{record: r}
	j.jobs[r.ID] = x
	j.forgetOldLocked()
	select {
	case j.started <- struct{}{}:
	default:
	}
	return x.shown(), nil
}

func (j *Jobs) runningLocked() (n int) {
	for _, x := range j.jobs {
		if x.record.State == messaging.JobRunning || x.cancel != nil {
			n++ // one that was cancelled counts until it has ended
		}
	}
	return n
}

// forgetOldLocked lets go of the jobs that ended longest ago, where there are
// too many.
func (j *Jobs) forgetOldLocked() {
	var ended []*job
	for _, x := range j.jobs {
		if x.record.State != messaging.JobRunning {
			ended = append(ended, x)
		}
	}
	slices.SortFunc(ended, func(a, b *job) int { return a.record.FinishedAt.Compare(b.record.FinishedAt) })
	for len(ended) > maxKept {
		if err := j.config.Store.ForgetJob(ended[0].record.ID); err != nil {
			j.logger.Warn("an old job could not be forgotten", "error", err)
			return
		}
		delete(j.jobs, ended[0].record.ID)
		ended = ended[1:]
	}
}

// shown is the job as others see it. The caller holds the lock.
func (x *job) shown() messaging.Job {
	s := x.record.Job
	s.ETA = -1
	if elapsed := time.Since(x.began); x.cancel != nil && s.Done > x.base && s.Total >= s.Done {
		s.ETA = time.Duration(float64(elapsed) * float64(s.Total-s.Done) / float64(s.Done-x.base))
	}
	return s
}

// ListJobs gives all jobs that are remembered, the newest first.
func (j *Jobs) ListJobs() ([]messaging.Job, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	list := make([]messaging.Job, 0, len(j.jobs))
	for _, x := range j.jobs {
		list = append(list, x.shown())
	}
	slices.SortFunc(list, func(a, b messaging.Job) int { return cmp.Compare(b.ID, a.ID) })
	return list, nil
}

// FindJob gives one job; ok is false where there is none.
func (j *Jobs) FindJob(id string) (messaging.Job, bool, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	x, ok := j.jobs[id]
	if !ok {
		return messaging.Job{}, false, nil
	}
	return x.shown(), true, nil
}

// CancelJob ends a job that runs; one that has ended is forgotten.
func (j *Jobs) CancelJob(id string) (messaging.Job, bool, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	x, ok := j.jobs[id]
	if !ok {
		return messaging.Job{}, false, nil
	}
	if x.record.State != messaging.JobRunning {
		if err := j.config.Store.ForgetJob(id); err != nil {
			return messaging.Job{}, true, err
		}
		delete(j.jobs, id)
		return x.shown(), true, nil
	}
	cancelled := x.record
	cancelled.State, cancelled.FinishedAt = messaging.JobCancelled, time.Now()
	if err := j.save(&cancelled); err != nil {
		return messaging.Job{}, true, err
	}
	// Only these: what the job reads of its record while it runs is never written.
	x.record.State, x.record.FinishedAt, x.stopped = cancelled.State, cancelled.FinishedAt, true
	if x.cancel != nil {
		x.cancel()
	}
	return x.shown(), true, nil
}

// Keep is the first sequence that running replays still have to read;
// retention must leave it. end stands for none.
func (j *Jobs) Keep(end uint64) uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, x := range j.jobs {
		if x.record.State == messaging.JobRunning && x.record.Replay != nil {
			end = min(end, x.record.Position.Sequence)
		}
	}
	return end
}

// Running is how many jobs are not finished.
func (j *Jobs) Running() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.runningLocked()
}

// Replayed and Redriven count the messages that jobs have sent where they
// belong.
func (j *Jobs) Replayed() uint64 { return j.replayed.Load() }

// Redriven is described with Replayed.
func (j *Jobs) Redriven() uint64 { return j.redriven.Load() }

// progress changes a job's record and, now and then, saves it.
func (j *Jobs) progress(x *job, save bool, change func(r *record)) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if x.stopped {
		return context.Canceled
	}
	change(&x.record)
	if !save {
		return nil
	}
	if err := j.save(&x.record); err != nil {
		return fmt.Errorf("save a job: %w", err)
	}
	return nil
}
