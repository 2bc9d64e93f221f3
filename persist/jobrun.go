package persist

import (
	"context"
	"errors"
	"runtime/debug"
	"time"

	"github.com/stayafrica/messaging"
)

type startable struct {
	ctx context.Context //nolint:containedctx // handed to the goroutine that is about to start
	job *job
}

// startable takes the jobs that are to run and do not.
func (j *Jobs) startable(ctx context.Context) (list []startable) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, x := range j.jobs {
		if x.record.State != messaging.JobRunning || x.cancel != nil || x.stopped {
			continue
		}
		jobCtx, cancel := context.WithCancel(ctx)
		x.cancel = cancel
		x.began, x.base = time.Now(), x.record.Done
		list = append(list, startable{jobCtx, x})
	}
	return list
}

// work runs one job to its end, or to the end of the context; then it goes on
// at the next start.
func (j *Jobs) work(ctx context.Context, x *job) {
	err := j.persevere(ctx, x)
	stopping := ctx.Err() != nil
	j.mu.Lock()
	defer j.mu.Unlock()
	x.cancel()
	x.cancel = nil
	r := &x.record
	switch {
	case x.stopped:
		r.State = messaging.JobCancelled
	case err == nil:
		r.State = messaging.JobDone
	case stopping:
		return // with the service; it goes on at the next start
	default:
		r.State, r.Error = messaging.JobFailed, err.Error()
		j.logger.ErrorContext(ctx, "a job failed", "job", r.ID, "kind", r.Kind, "error", err)
	}
	r.FinishedAt = time.Now()
	if j.jobs[r.ID] != x {
		return // it was forgotten meanwhile
	}
	if err := j.save(r); err != nil {
		j.logger.ErrorContext(ctx, "the end of a job could not be saved; after a restart it goes on where it was", "job", r.ID, "error", err)
	}
	j.logger.InfoContext(ctx, "a job ended", "job", r.ID, "kind", r.Kind, "state", r.State, "done", r.Done, "total", r.Total, "failed", r.Failed)
}

// persevere runs a job; while the disk is full it waits, as the drain does, and
// then goes on where it was.
func (j *Jobs) persevere(ctx context.Context, x *job) error {
	for told := false; ; told = true {
		err := j.protected(ctx, x)
		if messaging.CodeOf(err) != messaging.CodeDiskFull {
			return err
		}
		if !told {
			j.logger.WarnContext(ctx, "a job waits for room on the disk", "job", x.record.ID, "error", err)
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(fullDiskPause):
		}
	}
}

// fullDiskPause is how long a job waits for room on the disk between two tries.
const fullDiskPause = 5 * time.Second

// protected turns a panic into the failure of the one job.
func (j *Jobs) protected(ctx context.Context, x *job) (err error) {
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

var errJobPanic = errors.New("internal error")
