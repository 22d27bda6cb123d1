// expcache with go-redis, 9.8 or later, and Go 1.22 or later: go run go_redis.go HOST:PORT [cluster].
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// patience is how long one waits for others before one produces for oneself.
const patience = time.Minute

// getOrProduce returns the export of a key. One caller produces it, the others wait. Whatever is wrong with the cache, it is produced.
func getOrProduce(ctx context.Context, r redis.UniversalClient, key string, tags []string, produce func() (string, error)) (string, error) {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		// While another produces, this waits for up to 10 s: ReadTimeout must be longer.
		reply, err := r.Do(ctx, "EXPCACHE.FETCH", key, "LEASE", "30s", "WAIT", "10s").Result()
		if err != nil {
			log.Print("expcache: producing without the cache: ", err) // it is away, or refuses to be read
			return produce()
		}
		found := fields(reply)
		value, hit := found["value"].(string)
		if lease, leased := found["lease"].(string); leased {
			made, err := produce()
			if err != nil {
				release(ctx, r, key, lease, "FAIL", err.Error(), "BACKOFF", "5s")
				if hit {
					return value, nil
				}
				return "", err
			}
			store(ctx, r, key, made, tags, lease)
			return made, nil
		}
		if hit {
			return value, nil
		}
		retry, busy := found["retry"].(int64)
		if !busy {
			break // there is no lease to be had; the result is for this caller only
		}
		// Nobody is waited for after a production that failed: the key rests for a moment.
		time.Sleep(time.Duration(min(retry, 100)) * time.Millisecond)
	}
	return produce()
}

// fields reads a reply of names and values, which RESP2 sends as one flat array.
func fields(reply any) map[any]any {
	if found, ok := reply.(map[any]any); ok {
		return found
	}
	found, flat := map[any]any{}, reply.([]any)
	for i := 0; i+1 < len(flat); i += 2 {
		found[flat[i]] = flat[i+1]
	}
	return found
}

// store keeps the value, which is there whatever becomes of this.
func store(ctx context.Context, r redis.UniversalClient, key, value string, tags []string, lease string) {
	args := []any{"EXPCACHE.SET", key, value, "TAGS", len(tags)}
	for _, tag := range tags {
		args = append(args, tag)
	}
	err := r.Do(ctx, append(args, "GRACE", "5m", "FORMAT", "csv", "LEASE", lease)...).Err()
	// Invalidated while it was produced, or too late: whoever comes next gets a newer one.
	if err == nil || strings.HasPrefix(err.Error(), "FENCED") || strings.HasPrefix(err.Error(), "LEASELOST") {
		return
	}
	// Anything else (too large for its type, no memory left, a server that went) leaves the lease, and nobody shall wait for that.
	log.Print("expcache: not stored: ", err)
	release(ctx, r, key, lease)
}

// release gives the lease up. If that cannot be said, the lease ends by itself, and the caller has other things to hear of.
func release(ctx context.Context, r redis.UniversalClient, key, lease string, why ...any) {
	if err := r.Do(ctx, append([]any{"EXPCACHE.RELEASE", key, lease}, why...)...).Err(); err != nil {
		log.Print("expcache: not released: ", err)
	}
}

// invalidate makes every entry with any of the tags go, on every primary, and returns how many there were.
func invalidate(ctx context.Context, r redis.UniversalClient, tags ...any) (int64, error) {
	command := append([]any{"EXPCACHE.INVALIDATE.TAG"}, tags...)
	cluster, ok := r.(*redis.ClusterClient)
	if !ok {
		return r.Do(ctx, command...).Int64()
	}
	var sum atomic.Int64
	// Twice: while a slot moves, an entry may arrive at a node that has been told already.
	for range 2 {
		err := cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
			count, err := node.Do(ctx, command...).Int64()
			sum.Add(count)
			return err
		})
		if err != nil {
			return sum.Load(), err
		}
	}
	return sum.Load(), nil
}

func main() {
	ctx, cluster := context.Background(), len(os.Args) > 2
	r := redis.NewUniversalClient(&redis.UniversalOptions{Addrs: []string{os.Args[1]}, IsClusterMode: cluster, ReadTimeout: 15 * time.Second})
	produce := func() (string, error) { return "id,km\n1,12\n", nil }
	fmt.Println(getOrProduce(ctx, r, "export_cache:trips:1", []string{"company:42", "user:7"}, produce))
	fmt.Println(invalidate(ctx, r, "company:42"))
}
