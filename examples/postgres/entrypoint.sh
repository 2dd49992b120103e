#!/bin/sh
# Makes the database on the first start, then becomes the server.
set -eu

if [ "$1" = postgres ] && [ ! -s "$PGDATA/PG_VERSION" ]; then
    initdb --auth-local=trust --auth-host=trust --no-sync >/dev/null
    cp /etc/firebuild-demo/postgresql.conf "$PGDATA/postgresql.conf"
    echo "host all all all trust" >>"$PGDATA/pg_hba.conf"
    postgres --single -j postgres </etc/firebuild-demo/init.sql >/dev/null
    echo "database made"
fi
exec "$@"
