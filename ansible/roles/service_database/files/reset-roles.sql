-- Prints each setting that it removes.
select rolname, setconfig from pg_db_role_setting join pg_roles on pg_roles.oid = setrole;
create temporary table restored as select setrole as role from pg_db_role_setting where setrole <> 0;
select format('alter role %I %s reset all', rolname, 'in database ' || quote_ident(datname))
from pg_db_role_setting join pg_roles on pg_roles.oid = setrole left join pg_database on pg_database.oid = setdatabase \gexec
select pid, pg_terminate_backend(pid, 5000) from pg_stat_activity join restored on role = usesysid where pid <> pg_backend_pid();
