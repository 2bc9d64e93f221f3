package persist

import (
	"context"
	"errors"
	"runtime/debug"
	"time"

	"github.com/stayafrica/messaging"
)

type startableJob struct {
	ctx context.Context //nolint:containedctx // handed to the goroutine that is about to start
	job *job
}

// startable takes the jobs that are to run and are not running. A job that was
// cancelled before it ran is started too and ends in the same way as a running one.
func (j *Jobs) startable(ctx context.Context) (list []startableJob) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, x := range j.jobs {
		if x.ended || x.cancel != nil {
			continue
		}
		jobCtx, cancel := context.WithCancel(ctx)
		if x.stopped {
			cancel()
		}
		x.cancel = cancel
		x.began, x.base = time.Now(), x.record.Done
		list = append(list, startableJob{jobCtx, x})
	}
	return list
}

// work runs one job to its end, or until ctx ends; in the second case the job continues
// at the next start. ctx is the job's own context, a child of the service's.
func (j *Jobs) work(service, ctx context.Context, x *job) {
	err := j.runUntilDone(ctx, x)
	if err != nil && j.stopsWithService(ctx, x) {
		return
	}
	r, saveErr := j.end(x, err)
	for reported := false; messaging.CodeOf(saveErr) == messaging.CodeDiskFull; reported = true {
		if !reported {
			j.logger.WarnContext(service, "the end of a job waits for free disk space", "job", x.record.ID, "error", saveErr)
		}
		select {
		case <-service.Done():
			return // the job ends at the next start
		case <-time.After(fullDiskPause):
		}
		r, saveErr = j.end(x, err)
	}
	if saveErr != nil {
		j.logger.ErrorContext(service, "the end of a job could not be saved; after a restart the job continues from its saved progress", "job", r.ID, "error",
			saveErr)
	}
	if r.State == messaging.JobFailed {
		j.logger.ErrorContext(service, "a job failed", "job", r.ID, "kind", r.Kind, "error", err)
	}
	j.logger.InfoContext(service, "a job ended", "job", r.ID, "kind", r.Kind, "state", r.State, "done", r.Done, "total", r.Total, "failed", r.Failed)
}

// stopsWithService reports whether a job ends only because the service stops. It then
// continues at the next start and keeps its claims.
func (j *Jobs) stopsWithService(ctx context.Context, x *job) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if x.stopped || ctx.Err() == nil {
		return false
	}
	x.cancel()
	x.cancel = nil
	return true
}

// end makes the end of a job durable, which also ends its claims. If the disk is full,
// the job is unchanged and can still be cancelled.
func (j *Jobs) end(x *job, err error) (messaging.Job, error) {
	x.saving.Lock()
	defer x.saving.Unlock()
	j.mu.Lock()
	ended, stopped, exists := x.record, x.stopped, j.jobs[x.record.ID] == x
	j.mu.Unlock()
	switch {
	case stopped:
		ended.State = messaging.JobCancelled
	case err == nil:
		ended.State = messaging.JobDone
	default:
		ended.State, ended.Error = messaging.JobFailed, err.Error()
	}
	ended.Claims = false
	if ended.FinishedAt.IsZero() {
		ended.FinishedAt = time.Now()
	}
	if exists { // otherwise the job was forgotten, and its claims with it
		if err = j.save(&ended); messaging.CodeOf(err) == messaging.CodeDiskFull {
			return ended.Job, err
		}
	} else {
		err = nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	x.cancel()
	x.record, x.cancel, x.ended = ended, nil, true
	return ended.Job, err
}

// runUntilDone runs a job. While the disk is full it waits, as the drain does, and then
// continues from the saved progress.
func (j *Jobs) runUntilDone(ctx context.Context, x *job) error {
	for reported := false; ; reported = true {
		err := j.runRecovered(ctx, x)
		if messaging.CodeOf(err) != messaging.CodeDiskFull {
			return err
		}
		if !reported {
			j.logger.WarnContext(ctx, "a job waits for free disk space", "job", x.record.ID, "error", err)
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(fullDiskPause):
		}
	}
}

// fullDiskPause is the pause between two tries of a job while the disk is full.
const fullDiskPause = 5 * time.Second

// runRecovered runs a job and turns a panic into an error, so that only this job fails.
func (j *Jobs) runRecovered(ctx context.Context, x *job) (err error) {
	defer func() {
		if p := recover(); p != nil {
			j.logger.ErrorContext(ctx, "a job panicked", "job", x.record.ID, "panic", p, "stack", string(debug.Stack()))
			err = errJobPanic
		}
	}()
	if x.record.Replay != nil {
		return j.replay(ctx, x)
	}
	return j.redrive(ctx, x)
}

// waitForBackend blocks a job that needs a backend until it is cancelled or the service
// stops. The job continues at the next start with a backend.
func (j *Jobs) waitForBackend(ctx context.Context, x *job) error {
	j.logger.WarnContext(ctx, "a job waits for a backend", "job", x.record.ID, "kind", x.record.Kind, "error", errNoBackend)
	j.mu.Lock()
	x.waitsForBackend = true
	j.mu.Unlock()
	<-ctx.Done()
	return ctx.Err()
}

var errNoBackend = errors.New("the job waits for a start with a backend: DJANGO_API_URL is off")

var errJobPanic = errors.New("internal error")
