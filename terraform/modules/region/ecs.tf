# The same binary as containers, behind the same balancer: only with `ecs`.

locals {
  ecs = var.ecs == null ? 0 : 1
  # The service reads secrets from files, but ECS passes them as variables. A first container of the same image writes them into the
  # task's encrypted storage, and exits before the service starts.
  secrets_folder   = "/run/secrets"
  secret_variables = { for name in keys(local.secrets) : name => upper(replace(name, "-", "_")) }
  task_logs = {
    logDriver = "awslogs"
    options   = { awslogs-region = local.region, awslogs-group = "/${local.project}/${var.name}/tasks", awslogs-stream-prefix = "dob-api" }
  }
}

resource "aws_ecs_cluster" "this" {
  count = local.ecs
  name  = local.prefix

  setting {
    name  = "containerInsights"
    value = "enabled"
  }
}

resource "aws_ecs_task_definition" "this" {
  count                    = local.ecs
  family                   = local.prefix
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = 256
  memory                   = 512
  execution_role_arn       = aws_iam_role.this["task-start"].arn

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = upper(var.architecture)
  }

  volume {
    name = "secrets"
  }

  container_definitions = jsonencode([
    {
      name      = "secrets"
      image     = var.ecs.image
      essential = false
      # root owns the folder; the image's user reads the files.
      user                   = "0"
      command                = ["write-secrets", local.secrets_folder, "65532"]
      readonlyRootFilesystem = true
      secrets                = [for name, variable in local.secret_variables : { name = variable, valueFrom = local.secrets[name] }]
      mountPoints            = [{ sourceVolume = "secrets", containerPath = local.secrets_folder, readOnly = false }]
      logConfiguration       = local.task_logs
    },
    {
      name                   = local.project
      image                  = var.ecs.image
      essential              = true
      dependsOn              = [{ containerName = "secrets", condition = "SUCCESS" }]
      readonlyRootFilesystem = true
      portMappings           = [{ containerPort = 8080, protocol = "tcp" }]
      environment = [for name, value in merge(local.settings, {
        DATABASE_CA_FILE       = "${local.secrets_folder}/database-ca"
        DATABASE_PASSWORD_FILE = "${local.secrets_folder}/database-password"
      }) : { name = name, value = value }]
      mountPoints      = [{ sourceVolume = "secrets", containerPath = local.secrets_folder, readOnly = true }]
      stopTimeout      = 60
      logConfiguration = local.task_logs
    },
  ])
}

resource "aws_ecs_service" "this" {
  count                             = local.ecs
  name                              = local.prefix
  cluster                           = aws_ecs_cluster.this[0].id
  task_definition                   = aws_ecs_task_definition.this[0].arn
  launch_type                       = "FARGATE"
  desired_count                     = local.size.hosts[0]
  health_check_grace_period_seconds = 120
  depends_on                        = [aws_lb_listener.https]

  network_configuration {
    subnets          = local.subnet_ids.service
    security_groups  = [aws_security_group.this["service"].id]
    assign_public_ip = false
  }

  load_balancer {
    target_group_arn = aws_lb_target_group.this["tasks"].arn
    container_name   = local.project
    container_port   = 8080
  }

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }
}

data "aws_iam_policy_document" "start_task" {
  source_policy_documents = [data.aws_iam_policy_document.read_secrets["task"].json]

  statement {
    actions   = ["ecr:GetAuthorizationToken"]
    resources = ["*"]
  }

  statement {
    actions   = ["ecr:BatchCheckLayerAvailability", "ecr:GetDownloadUrlForLayer", "ecr:BatchGetImage"]
    resources = ["${local.arn}:ecr:${local.region}:${local.account}:repository/*"]
  }

  statement {
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${local.arn}:logs:${local.region}:${local.account}:log-group:/${local.project}/${var.name}/tasks:*"]
  }
}
