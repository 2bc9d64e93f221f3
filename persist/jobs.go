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

// Limits of jobs.
const (
	// maxRunning is how many jobs of a kind may run at once. maxKept is how many ended
	// jobs are kept.
	maxRunning = 8
	maxKept    = 100
	// maxRetainingReplays is how many replays may hold back retention at once, and
	// maxRetention for how long each.
	maxRetainingReplays = 2
	maxRetention        = 24 * time.Hour
)

// JobsConfig configures jobs. Zero values select the defaults named below.
type JobsConfig struct {
	Store       JobStore
	History     History
	DeadLetters DeadLetters
	// Letters stores the dead letters of replays.
	Letters LetterStore
	// Evidence is shared with the drain of the same backend; nil starts without
	// evidence.
	Evidence *Evidence
	// Sink is the backend. If it is nil, jobs that need a backend wait for a start that
	// has one.
	Sink Sink
	// BatchSize (500), BatchBytes (1 MiB), MaxAttempts (5) and MaxBackoff (30 s) have
	// the same meaning as in [Config].
	BatchSize, BatchBytes, MaxAttempts int
	MaxBackoff                         time.Duration
	Logger                             *slog.Logger
}

// Jobs runs redrives and replays concurrently with the drain. Create it with [NewJobs]
// and run it with [Jobs.Run]. The other methods may be called at any time.
type Jobs struct {
	config   JobsConfig
	logger   *slog.Logger
	replayed atomic.Uint64
	redriven atomic.Uint64
	started  chan struct{} // wakes Run when there is a new job
	starting sync.Mutex    // held while a job is added, which keeps the number of jobs within its limit

	mu   sync.Mutex // guards jobs; never held during a commit
	jobs map[string]*job
}

// job is a job in memory.
type job struct {
	// saving is held while the record is made durable and then changed in memory. Lock
	// order: saving before Jobs.mu.
	saving sync.Mutex

	record          record
	cancel          context.CancelFunc // nil while the job is not running
	stopped         bool               // it was cancelled
	ended           bool               // it has ended, or will not run any more
	waitsForBackend bool               // until the next start
	// began is when this run began, and base the value of Done at that time; both are
	// for the estimate.
	began time.Time
	base  uint64
}

// NewJobs reads the stored jobs.
func NewJobs(config JobsConfig) (*Jobs, error) {
	config.BatchSize = cmp.Or(config.BatchSize, 500)
	config.BatchBytes = cmp.Or(config.BatchBytes, 1<<20)
	config.MaxAttempts = cmp.Or(config.MaxAttempts, 5)
	config.MaxBackoff = cmp.Or(config.MaxBackoff, 30*time.Second)
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	if config.Evidence == nil {
		config.Evidence = new(Evidence)
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
			return nil, fmt.Errorf("%w: the record under %s has the id %q", errOtherJob, id, x.record.ID)
		}
		x.stopped = x.record.State == messaging.JobCancelled
		x.ended = x.record.State != messaging.JobRunning && !x.record.Claims
		j.jobs[id] = x
	}
	return j, nil
}

func (j *Jobs) save(r *record) error {
	p, err := r.progress()
	if err != nil {
		return err
	}
	return j.config.Store.SaveProgress(p)
}

// Run runs jobs until ctx ends, and waits for them to return.
func (j *Jobs) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	for {
		for _, x := range j.startable(ctx) {
			running.Go(func() { j.work(ctx, x.ctx, x.job) })
		}
		select {
		case <-ctx.Done():
			return nil
		case <-j.started:
		}
	}
}

var errOtherJob = errors.New("a stored job has another id than its key")

// start makes a new job durable and schedules it.
func (j *Jobs) start(r record) (messaging.Job, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return messaging.Job{}, messaging.Internal(err)
	}
	r.ID, r.State, r.CreatedAt = id.String(), messaging.JobRunning, time.Now()
	j.starting.Lock()
	defer j.starting.Unlock()
	if j.running(r.Kind) >= maxRunning {
		err := messaging.Errorf(messaging.CodeTooManyRequests, "%d jobs of the kind %s are running, which is the maximum: wait for one to end, or cancel one",
			maxRunning, r.Kind)
		err.RetryAfter = 10 * time.Second
		return messaging.Job{}, err
	}
	if err := j.save(&r); err != nil {
		return messaging.Job{}, err
	}
	j.mu.Lock()
	x := &job{record: r}
	j.jobs[r.ID] = x
	shown := x.snapshotLocked()
	j.mu.Unlock()
	j.forgetOld()
	j.wake()
	return shown, nil
}

// wake makes Run check for jobs to start.
func (j *Jobs) wake() {
	select {
	case j.started <- struct{}{}:
	default:
	}
}

func (j *Jobs) running(kind messaging.JobKind) (n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, x := range j.jobs {
		if x.record.Kind != kind {
			continue
		}
		if x.record.State == messaging.JobRunning || x.cancel != nil {
			n++ // a cancelled job counts until it has ended
		}
	}
	return n
}

// forgetOld removes the jobs that ended longest ago while more than maxKept have ended.
func (j *Jobs) forgetOld() {
	for _, x := range j.tooOld() {
		if err := j.forget(x); err != nil {
			j.logger.Warn("an old job could not be removed", "error", err)
			return
		}
	}
}

func (j *Jobs) tooOld() []*job {
	j.mu.Lock()
	defer j.mu.Unlock()
	var ended []*job
	for _, x := range j.jobs {
		if x.record.State != messaging.JobRunning {
			ended = append(ended, x)
		}
	}
	slices.SortFunc(ended, func(a, b *job) int { return a.record.FinishedAt.Compare(b.record.FinishedAt) })
	return ended[:max(0, len(ended)-maxKept)]
}

// forget removes a job that is not running.
func (j *Jobs) forget(x *job) error {
	x.saving.Lock()
	defer x.saving.Unlock()
	return j.forgetSavingLocked(x)
}

// forgetSavingLocked is forget for a caller that holds x.saving.
func (j *Jobs) forgetSavingLocked(x *job) error {
	if err := j.config.Store.ForgetJob(x.record.ID); err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.jobs, x.record.ID)
	return nil
}

// snapshotLocked returns the job as the API shows it. The caller holds Jobs.mu.
func (x *job) snapshotLocked() messaging.Job {
	s := x.record.Job
	s.ETA = -1
	if elapsed := time.Since(x.began); x.cancel != nil && s.Done > x.base && s.Total >= s.Done {
		s.ETA = time.Duration(float64(elapsed) * float64(s.Total-s.Done) / float64(s.Done-x.base))
	}
	if x.waitsForBackend && s.State == messaging.JobRunning {
		s.Error = errNoBackend.Error()
	}
	return s
}

// ListJobs returns all stored jobs, newest first.
func (j *Jobs) ListJobs() ([]messaging.Job, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	list := make([]messaging.Job, 0, len(j.jobs))
	for _, x := range j.jobs {
		list = append(list, x.snapshotLocked())
	}
	slices.SortFunc(list, func(a, b messaging.Job) int { return cmp.Compare(b.ID, a.ID) })
	return list, nil
}

// FindJob returns one job. ok is false if there is none with that id.
func (j *Jobs) FindJob(id string) (messaging.Job, bool, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	x, ok := j.jobs[id]
	if !ok {
		return messaging.Job{}, false, nil
	}
	return x.snapshotLocked(), true, nil
}

// CancelJob cancels a running job, or forgets one that has ended.
func (j *Jobs) CancelJob(id string) (messaging.Job, bool, error) {
	j.mu.Lock()
	x, ok := j.jobs[id]
	j.mu.Unlock()
	if !ok {
		return messaging.Job{}, false, nil
	}
	x.saving.Lock()
	defer x.saving.Unlock()
	j.mu.Lock()
	cancelled, exists, shown := x.record, j.jobs[id] == x, x.snapshotLocked()
	j.mu.Unlock()
	if !exists {
		return messaging.Job{}, false, nil // another call has forgotten it
	}
	if cancelled.State != messaging.JobRunning {
		return shown, true, j.forgetSavingLocked(x)
	}
	cancelled.State, cancelled.FinishedAt = messaging.JobCancelled, time.Now()
	if err := j.save(&cancelled); err != nil {
		return messaging.Job{}, true, err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	// Change only these fields: the running job reads the others without the lock.
	x.record.State, x.record.FinishedAt, x.stopped = cancelled.State, cancelled.FinishedAt, true
	if x.cancel != nil {
		x.cancel()
	} else {
		j.wake() // a job that is not running ends in the same way as a running one
	}
	return x.snapshotLocked(), true, nil
}

// Keep returns the first sequence that retention must keep for running replays, or end
// if there is no limit. The two oldest replays hold back retention, each for a day at
// most. Sequences that are trimmed before another replay reads them are counted in its
// job.
func (j *Jobs) Keep(end uint64) uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	var holding []*record
	for _, x := range j.jobs {
		r := &x.record
		if r.State == messaging.JobRunning && r.Replay != nil && time.Since(r.CreatedAt) < maxRetention {
			holding = append(holding, r)
		}
	}
	slices.SortFunc(holding, func(a, b *record) int { return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID)) })
	for _, r := range holding[:min(len(holding), maxRetainingReplays)] {
		end = min(end, r.Position.Sequence)
	}
	return end
}

// Running returns how many jobs have not finished.
func (j *Jobs) Running() int { return j.running(messaging.Redrive) + j.running(messaging.Replay) }

// Replayed returns how many messages replays have sent to the backend.
func (j *Jobs) Replayed() uint64 { return j.replayed.Load() }

// Redriven returns how many messages redrives have sent to the backend or their queues.
func (j *Jobs) Redriven() uint64 { return j.redriven.Load() }

// commit changes a job's record in the commit that write makes. If write fails, the
// record is unchanged. A job that was forgotten meanwhile has no record to change, and
// a cancelled job stays cancelled.
func (j *Jobs) commit(x *job, change func(r *record), write func(p messaging.Progress) error) error {
	x.saving.Lock()
	defer x.saving.Unlock()
	j.mu.Lock()
	changed, exists := x.record, j.jobs[x.record.ID] == x
	j.mu.Unlock()
	change(&changed)
	var p messaging.Progress
	if exists {
		var err error
		if p, err = changed.progress(); err != nil {
			return err
		}
	}
	if err := write(p); err != nil {
		return fmt.Errorf("save a job: %w", err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	x.record = changed
	return nil
}

// update changes a job's record in memory; the next commit makes it durable. Only the
// goroutine of the job calls it, so no commit of that job is in progress.
func (j *Jobs) update(x *job, change func(r *record)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	change(&x.record)
}
