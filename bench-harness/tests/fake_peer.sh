#!/bin/sh
# A peer for the tests. First argument: how it behaves. $ANSWER: the file with the right output.
how=$1
runs=0
answer=$ANSWER
[ "$how" = wrong ] && answer=$WRONG_ANSWER
[ "$how" = mute ] && while :; do sleep 0.1; done
[ "$how" = broken ] && { echo "no such library" >&2; exit 3; }
while IFS= read -r line; do
    case $line in
        *'"do":"hello"'*)
            threads=$OMP_NUM_THREADS
            [ "$how" = greedy ] && threads=9
            echo '{"reply":"hello","protocol":1,"name":"fake","version":"'$$'","threads":'"$threads"'}'
            ;;
        *'"do":"prepare"'*)
            input=${line#*'"files":{"input":"'}
            weights=${line#*'"weights":"'}
            if [ "$how" = choosy ]; then
                echo '{"reply":"declined","declined":"no operator for this"}'
            elif [ -s "${input%%'"'*}" ] && [ -s "${weights%%'"'*}" ]; then
                echo '{"reply":"prepared","plan_ns":1000}'
            else
                echo '{"reply":"failed","failed":"where are the tensors?"}'
            fi
            ;;
        *'"do":"run"'*)
            k=${line##*:}
            k=${k%\}}
            runs=$((runs + 1))
            [ "$how" = crashing ] && { echo "last words" >&2; kill -SEGV $$; }
            [ "$how" = tired ] && [ $runs -gt 6 ] && { echo "out of breath" >&2; exit 7; }
            [ "$how" = hanging ] && kill -STOP $$
            [ "$how" = babbling ] && echo "computing, please wait"
            cpu=$((k * 50000))
            [ "$how" = crowded ] && cpu=$((k * 100000 + 2000000))
            echo '{"reply":"ran","runs":'"$k"',"wall_ns":'$((k * 50000))',"cpu_ns":'"$cpu"',"switches":0,"faults":0}'
            ;;
        *'"do":"fetch"'*)
            output=${line#*'"output":"'}
            if [ "$how" = short ]; then echo 1 >"${output%%'"'*}"; else cp "$answer" "${output%%'"'*}"; fi
            echo '{"reply":"fetched"}'
            ;;
        *'"do":"release"'*) echo '{"reply":"released"}' ;;
        *'"do":"bye"'*) exit 0 ;;
    esac
done
